"""`magvit verify --role features` and its like: features in units of their rms."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper
from runtime.magvit_process import done_json

from magvit_export.verification.references import find_reference
from magvit_runtime import FeatureExtractor, open_bundle
from magvit_runtime.agreement.features import FeatureAgreement
from magvit_runtime.bundle.manifest import FileRecord
from magvit_runtime.bundle.writing import changing_bundle, write_manifest
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.verification.verifying import verify_bundle

onnx = pytest.importorskip("onnx")


@pytest.mark.parametrize("name", ["videomae", "clip"])
def test_graphs_agree_with_pytorch_and_get_stamps(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(request.getfixturevalue(f"{name}_bundle"), path)
    folder = request.getfixturevalue(f"{name}_folder")
    facts = done_json(
        "verify", path, "--role", "features", "--weights", folder, "--report", tmp_path / "r.html"
    )
    assert "1 − least cosine" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert facts["passed"]
    ours = {one["subject"]: one for one in facts["encoders"] if one["runs"]}
    assert set(facts["stamped"]) == ours.keys() == {"onnxruntime fp32", "onnxruntime fp16"}
    assert ours["onnxruntime fp32"]["rms"] < 1e-5 < ours["onnxruntime fp16"]["rms"] < 2e-3
    assert ours["onnxruntime fp16"]["least_cosine"] > 1 - 1e-5
    with FeatureExtractor.open(path, precision="fp16", require_parity=True) as extractor:
        assert extractor.capabilities.precision == "fp16"


def test_a_wrong_weight_is_found(videomae_bundle: Path, tmp_path: Path) -> None:
    """In the fp16 graph, one layer's last bias."""
    path = tmp_path / "bundle"
    shutil.copytree(videomae_bundle, path)
    opened = open_bundle(path)
    graph = opened.graph("features", "fp16")[1]
    model = onnx.load(path / graph.file, load_external_data=False)
    (bias,) = (
        one for one in model.graph.initializer if one.name.endswith("layer.1.output.dense.bias")
    )
    values = numpy_helper.to_array(bias).copy()
    values[::2] += np.float16(0.5)  # Of all channels, LayerNorm would take it away.
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, path / graph.file)
    record = FileRecord((path / graph.file).stat().st_size, file_sha256(path / graph.file))
    with changing_bundle(path):
        opened.manifest.files[graph.file] = record
        write_manifest(path, opened.manifest)
    bundle = open_bundle(path)
    result = verify_bundle(
        bundle, find_reference(bundle, "fp32", None, "features"), role="features", batch_sizes=[1]
    )
    assert not result.passed
    (wrong,) = (one for one in result.verdicts if one.runs)
    assert isinstance(wrong.agreement, FeatureAgreement)
    assert wrong.agreement.rms > 0.1


def test_doctor_bench_and_onnx_take_features(clip_bundle: Path, tmp_path: Path) -> None:
    ways = done_json("doctor", clip_bundle)
    assert "features" in str(ways)
    options = ("--inputs", 1, "--repetitions", 1, "--rounds", 1, "--workers", 0)
    timed = done_json("bench", clip_bundle, "--role", "features", *options)
    assert timed["settings"]["role"] == "features"
    assert [row["encoder"] for row in timed["rows"]]
    written = tmp_path / "plain.onnx"
    done_json("onnx", clip_bundle, "--role", "features", "-o", written)
    assert onnx.load(written, load_external_data=False).graph.output[0].name == "features"
