"""A model family of another package is taken by every command, with no file of ours changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_export.bundle_writer import file_records
from magvit_export.checkpoints.seeded import seeded_array
from magvit_runtime import Tokenizer, open_bundle
from magvit_runtime.bundle.engine_records import EngineRecord
from magvit_runtime.bundle.manifest import MarginMetrics
from magvit_runtime.quantizers.specs import CodebookSpec
from magvit_runtime.results.token_files import read_tokens

MAGVIT = [sys.executable, "-c", "from magvit_runtime.cli.main import main; main()", "--json"]
IMAGES = np.random.default_rng(7).integers(0, 256, (3, 24, 36, 3), np.uint8)
ENTRY_POINTS = """
[magvit.families]
toy = toy_family:FAMILY

[magvit.models]
toy = toy_family:MODELS
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As after `pip install` of a package with the toy in it."""
    site = tmp_path_factory.mktemp("site")
    shutil.copy(Path(__file__).with_name("toy_family.py"), site)
    facts = site / "toy_family-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-family\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(ENTRY_POINTS)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path[1:]])}


@pytest.fixture(scope="module")
def exported(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "bundle"
    for precision in ("fp32", "fp16"):
        options = ("--weights", "seeded", "--precision", precision, "-o", path)
        magvit(environment, "export", "toy-4", *options)
    return path


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


def magvit(environment: dict[str, str], *arguments: object, code: int = 0) -> dict[str, Any]:
    run = subprocess.run(
        [*MAGVIT, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == code, run.stderr
    facts: dict[str, Any] = json.loads(run.stdout or json.dumps({"error": run.stderr}))
    return facts


def expected_ids(images: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The toy in NumPy: the scores of each patch's latents, and the best one's row."""
    weight = seeded_array("conv.weight", (8, 3, 4, 4))
    bias = seeded_array("conv.bias", (8,))
    codebook = seeded_array("codebook", (4, 8))
    count, height, width, _ = images.shape
    patches = (images / 127.5 - 1).reshape(count, height // 4, 4, width // 4, 4, 3)
    latents = np.einsum("nhawbc,zcab->nhwz", patches, weight) + bias
    scores: NDArray[np.floating] = latents @ codebook.T
    return scores.argmax(axis=-1)


def test_models_lists_it(environment: dict[str, str]) -> None:
    assert "toy-4" in [one["name"] for one in magvit(environment, "models")["models"]]


def test_the_bundle_says_what_it_is(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    assert manifest.component.family == "toy"
    assert manifest.tokens is not None
    assert manifest.tokens.quantizer == CodebookSpec(4)
    assert manifest.graphs["encode"].keys() == {"fp32", "fp16"}
    graph = manifest.graphs["encode"]["fp32"]
    assert graph.operators == {}
    assert graph.work is not None
    assert graph.work.flop == 2 * 32 * 32 * (8 * 3 * 4 * 4 + 8 * 4)


def test_tokenize_gives_the_rows_that_fit_best(
    environment: dict[str, str], bundle: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    output = tmp_path / "tokens.npz"
    magvit(environment, "tokenize", bundle, tmp_path / "images.npy", "-o", output)
    table = read_tokens(output)
    assert table.info.quantizer == CodebookSpec(4)
    np.testing.assert_array_equal(table.tokens, expected_ids(IMAGES))
    assert len(np.unique(table.tokens)) > 1
    # Also without the package: running a bundle needs nothing of its family.
    with Tokenizer.open(bundle) as tokenizer:
        np.testing.assert_array_equal(tokenizer(IMAGES), table.tokens)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("against", "subjects"),
    [("pytorch", {"onnxruntime fp32", "onnxruntime fp16"}), ("fp32", {"onnxruntime fp16"})],
)
def test_verify_compares_by_margins(
    environment: dict[str, str], bundle: Path, against: str, subjects: set[str]
) -> None:
    facts = magvit(environment, "verify", bundle, "--against", against, "--batch-sizes", "1")
    ran = {one["subject"]: one for one in facts["encoders"] if one["runs"]}
    assert ran.keys() == subjects == set(facts["stamped"])
    assert all(one["passed"] and one["outside_margin"] == 0 for one in ran.values())
    assert 0 < ran["onnxruntime fp16"]["rms"] < 8e-3
    stamp = open_bundle(bundle).manifest.stamps["encode onnxruntime fp16"]
    assert isinstance(stamp.metrics, MarginMetrics)
    assert stamp.metrics.tokens == ran["onnxruntime fp16"]["tokens"] > 0
    with Tokenizer.open(bundle, precision="fp16", require_parity=True) as tokenizer:
        assert tokenizer.capabilities.precision == "fp16"


@pytest.mark.slow
def test_verify_sees_another_conv(environment: dict[str, str], bundle: Path) -> None:
    """Its channels are exchanged, and the digest is recorded again."""
    data = bundle / "encode.fp32.data"
    weight = seeded_array("conv.weight", (8, 3, 4, 4))
    assert data.read_bytes() == weight.tobytes()
    data.write_bytes(weight[::-1].tobytes())
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["files"] |= msgspec.to_builtins(file_records([data]))
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    facts = magvit(environment, "verify", bundle, "--against", "pytorch", code=1)
    (one,) = (one for one in facts["encoders"] if one["subject"] == "onnxruntime fp32")
    assert not one["passed"]
    assert one["outside_margin"] > 0
    assert facts["stamped"] == []


@pytest.mark.slow
def test_bisection_says_that_it_has_no_cuts(environment: dict[str, str], bundle: Path) -> None:
    facts = magvit(environment, "verify", bundle, "--bisect", "--batch-sizes", "1", code=2)
    assert "graphs of the family 'toy' can't be cut in stages" in facts["error"]


def test_bench_times_it(environment: dict[str, str], bundle: Path) -> None:
    quick = ("--inputs", 1, "--repetitions", 2, "--rounds", 1, "--workers", 0, "--threads", 1)
    facts = magvit(environment, "bench", bundle, *quick)
    assert "onnxruntime fp32" in [row["encoder"] for row in facts["rows"]]
    assert facts["work"]["flop"] == 2 * 32 * 32 * (8 * 3 * 4 * 4 + 8 * 4)


def test_doctor_examines_its_bundle(environment: dict[str, str], bundle: Path) -> None:
    ways = {way["subject"]: way for way in magvit(environment, "doctor", bundle)["ways"]}
    assert ways["onnxruntime fp32"]["runs"]
    assert ways["onnxruntime fp16"]["runs"]
    assert not any(way["is_engine"] for way in ways.values())


@pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13",
)
def test_its_engine_needs_no_plugins(environment: dict[str, str], bundle: Path) -> None:
    sizes = ("--profile", "1/1/2", "--height", 32, "--width", 32)
    without = environment | {"MAGVIT_LIBRARY_DIR": str(bundle)}
    built = magvit(without, "build", bundle, "--flavour", "tensorrt-rtx", *sizes)
    assert built["plugin_layers"] == {}
    sidecar = Path(built["plan"]).with_suffix(".json")
    record = msgspec.json.decode(sidecar.read_bytes(), type=EngineRecord)
    assert (record.key.plugin_interface, record.plugin_sha256) == (None, None)
    assert record.key.profiles[0]["images"].maximum == (2, 32, 32, 3)


def test_without_the_package_the_model_is_unknown(tmp_path: Path) -> None:
    facts = magvit(
        dict(os.environ),
        *("export", "toy-4", "--weights", "seeded", "-o", tmp_path / "bundle"),
        code=2,
    )
    assert "no model is named 'toy-4'" in facts["error"]
