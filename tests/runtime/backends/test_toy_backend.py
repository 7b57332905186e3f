"""A backend of another package is taken by every command, with no file of ours changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from magvit_runtime import Tokenizer

MAGVIT = [sys.executable, "-c", "from magvit_runtime.cli.main import main; main()", "--json"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As after `pip install` of a package with the toy in it."""
    site = tmp_path_factory.mktemp("site")
    shutil.copy(Path(__file__).with_name("toy_backend.py"), site)
    facts = site / "toy_backend-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-backend\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[magvit.backends]\ntoy = toy_backend:BACKEND\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path[1:]])}


@pytest.fixture
def bundle(fixed_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(fixed_bundle, tmp_path / "bundle")


def magvit(environment: dict[str, str], *arguments: object) -> dict[str, Any]:
    run = subprocess.run(
        [*MAGVIT, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    facts: dict[str, Any] = json.loads(run.stdout)
    return facts


def test_tokenize_gives_the_same_ids(
    environment: dict[str, str], bundle: Path, tmp_path: Path
) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (3, 5, 16, 16, 3), np.uint8)
    np.save(tmp_path / "clips.npy", clips)
    output = tmp_path / "tokens.npz"
    magvit(
        environment, "tokenize", bundle, tmp_path / "clips.npy", "-o", output, "--backend", "toy"
    )
    with Tokenizer.open(bundle, backend="onnxruntime") as tokenizer, np.load(output) as tokens:
        np.testing.assert_array_equal(tokens["tokens"], tokenizer(clips))


@pytest.mark.slow
def test_verify_stamps_it(environment: dict[str, str], bundle: Path) -> None:
    facts = magvit(environment, "verify", bundle, "--against", "fp32", "--batch-sizes", "1")
    passed = {one["subject"]: one.get("passed") for one in facts["encoders"]}
    assert passed["toy fp32"] is True
    assert "toy fp32" in facts["stamped"]


@pytest.mark.slow
def test_doctor_and_tune_see_it(environment: dict[str, str], bundle: Path) -> None:
    ways = {way["subject"]: way for way in magvit(environment, "doctor", bundle)["ways"]}
    assert ways["toy fp32"]["runs"]
    facts = magvit(environment, "tune", bundle)
    assert "toy fp32" in json.dumps(facts)


def test_without_the_package_its_name_is_unknown(bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "clips.npy", np.zeros((1, 1, 8, 8, 3), np.uint8))
    arguments = ["tokenize", bundle, tmp_path / "clips.npy", "-o", tmp_path / "t.npz"]
    run = subprocess.run(
        [*MAGVIT, *map(str, arguments), "--backend", "toy"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert "no backend is named 'toy'" in run.stdout + run.stderr
