"""`magvit onnx`: a graph in standard operators, which ONNX Runtime and OpenVINO run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from magvit_export.cli.onnx import onnx as write_plain
from magvit_runtime import BundleError, Detokenizer, InputError, Tokenizer, open_bundle
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.types import Array

openvino = pytest.importorskip("openvino", reason="pip install 'magvit-runtime[peers]'")


def inputs_of(role: Role) -> Array:
    random = np.random.default_rng(0)
    if role == "encode":
        return random.integers(0, 256, (2, 5, 32, 48, 3), np.uint8)
    return random.integers(0, 2**18, (2, 2, 4, 6), np.int32)


def expected_of(bundle: Path, role: Role) -> Array:
    kind = Tokenizer if role == "encode" else Detokenizer
    with kind.open(bundle, backend="onnxruntime") as model:
        return model(inputs_of(role))


@pytest.mark.slow
@pytest.mark.parametrize("role", ["encode", "decode"])
def test_other_tools_run_it(small_bundle: Path, tmp_path: Path, role: Role) -> None:
    path = tmp_path / "plain.onnx"
    outcome = write_plain(small_bundle, output=path, role=role)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["plain.data", "plain.onnx"]
    model = onnx.load(path, load_external_data=False)
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    assert [opset.domain for opset in model.opset_import] == [""]
    assert outcome.facts["operators"]["Conv"] > 10
    onnx.checker.check_model(path, full_check=True)

    expected = expected_of(small_bundle, role)
    name = open_bundle(small_bundle).graph(role)[1].inputs[0].name
    ours = onnxruntime.InferenceSession(path).run(None, {name: inputs_of(role)})[0]
    np.testing.assert_array_equal(ours, expected)

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(openvino.Core().read_model(path), "CPU", settings)
    theirs = compiled([inputs_of(role)])[0]
    assert theirs.shape == expected.shape
    assert theirs.dtype == expected.dtype
    # Its GroupNorm sums naively, which flips a few signs and moves a few levels.
    if role == "encode":
        assert np.mean(theirs == expected) > 0.98
    else:
        errors = np.abs(theirs.astype(int) - expected)
        assert (errors.max() <= 2, np.mean(errors == 0) > 0.97) == (True, True)


def test_nothing_is_written_into_the_bundle(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="would lie in the bundle"):
        write_plain(tiny_bundle, output=tiny_bundle / "plain.onnx")


def test_a_file_of_another_kind(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown kind: expected \.onnx"):
        write_plain(tiny_bundle, output=tmp_path / "plain.pb")


def test_a_damaged_bundle_leaves_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (bundle / "decode.fp32.data").write_bytes(b"damage")
    with pytest.raises(BundleError, match="has changed since export"):
        write_plain(bundle, output=tmp_path / "plain.onnx", role="decode")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
