"""`magvit verify`: agreement of a bundle's encoders with its float32 one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from seeded_checkpoints import TINY

from magvit_export.bundle_writer import file_records
from magvit_export.catalog import find_model
from magvit_export.exporting import ClipSizes, export_tokenizer
from magvit_runtime.manifest import Precision
from magvit_runtime.verification_clips import verification_clips

MAGVIT = [sys.executable, "-c", "from magvit_runtime.cli.main import main; main()"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "bundle"
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    for precision in precisions:
        export_tokenizer(
            find_model("trajectory-small"),
            path,
            weights="seeded",
            config=TINY,
            precision=precision,
            sizes=ClipSizes(frames=5, height=48, width=48),
        )
    return path


@pytest.fixture
def two_precisions(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "bundle")


def verify(bundle: Path) -> tuple[int, dict[str, object]]:
    command = [*MAGVIT, "--json", "verify", str(bundle)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode, json.loads(result.stdout or "null") or {"error": result.stderr}


def test_a_sound_bundle(two_precisions: Path) -> None:
    code, facts = verify(two_precisions)
    assert code == 0
    (row,) = facts["encoders"]
    assert (row["precision"], row["backend"], row["passed"]) == ("fp16", "onnxruntime", True)
    assert 0 < row["rms"] < 8e-3


def test_one_wrong_weight_disagrees(two_precisions: Path) -> None:
    """A digest says that a file is as it was written; only tokens say that it is right."""
    data = two_precisions / "encoder.fp16.onnx.data"
    weights = np.fromfile(data, np.float16)
    weights[: len(weights) // 2] *= 1.05
    weights.tofile(data)
    manifest = json.loads((two_precisions / "bundle.json").read_text())
    manifest["files"][data.name]["sha256"] = file_records([data])[data.name].sha256
    (two_precisions / "bundle.json").write_text(json.dumps(manifest))
    code, facts = verify(two_precisions)
    assert code == 1
    assert facts["passed"] is False


def test_a_changed_file_is_named(two_precisions: Path) -> None:
    with (two_precisions / "encoder.fp16.onnx.data").open("r+b") as file:
        file.write(b"\x00\x00\x01\x01")
    code, facts = verify(two_precisions)
    assert code == 1
    assert "encoder.fp16.onnx.data has changed since export" in facts["error"]


@pytest.mark.parametrize("shape", [(17, 128, 128, 3), ("frames", 64, 48, 3), (256, 256, 3)])
def test_clips_for_any_model(shape: tuple[int | str, ...]) -> None:
    clips = verification_clips(shape)
    assert clips.dtype == np.uint8
    assert clips.shape[0] == 3
    assert clips.shape[1:] == tuple(17 if size == "frames" else size for size in shape)
    drawn, flat, noise = clips
    assert 0 < (drawn > 0).mean() < 0.5
    assert not flat.any()
    assert noise.std() > 60
