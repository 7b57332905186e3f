"""Half-precision encoders: the types in the graph, and tokens within the rule."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from seeded_checkpoints import TINY, golden

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_runtime import BackendError, Tokenizer, open_bundle
from magvit_runtime.agreement.signs import compare_latents
from magvit_runtime.bundle.manifest import Precision

RESIDUAL_BLOCKS, DOWNSAMPLES, SHORTCUTS = 5, 3, 2


@pytest.fixture(scope="module")
def precisions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bundle of seeded weights with an encoder of each precision."""
    path = tmp_path_factory.mktemp("precisions") / "bundle"
    names: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "bf16")
    for name in names:
        export_model(
            find_model("trajectory-small"), path, weights="seeded", roles=["encode"], precision=name
        )
    return path


def load(path: Path) -> onnx.ModelProto:
    return onnx.load(path, load_external_data=False)


def casts(model: onnx.ModelProto) -> int:
    return Counter(node.op_type for node in model.graph.node)["Cast"]


@pytest.mark.parametrize(
    ("name", "half"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)]
)
def test_half_weights_around_islands_of_float32(precisions: Path, name: str, half: int) -> None:
    model = load(precisions / f"encode.{name}.onnx")
    onnx.checker.check_model(str(precisions / f"encode.{name}.onnx"), full_check=True)
    for tensor in model.graph.initializer:
        if not tensor.name.startswith("encoder."):
            continue
        island = "norm" in tensor.name or "conv_out" in tensor.name
        assert tensor.data_type == (TensorProto.FLOAT if island else half), tensor.name
    # uint8 to float32, float32 to half, and back before the last conv: nothing else is cast.
    assert casts(model) == 3
    assert model.graph.output[1].type.tensor_type.elem_type == TensorProto.FLOAT


@pytest.mark.slow
def test_float32_residual_stream_costs_two_casts_a_block(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    export_model(
        find_model("trajectory-small"),
        path,
        weights="seeded",
        roles=["encode"],
        precision="fp16",
        residual="fp32",
    )
    assert open_bundle(path).graphs("encode")["fp16"].residual == "fp32"
    model = load(path / "encode.fp16.onnx")
    around_convs = 2 * (RESIDUAL_BLOCKS + DOWNSAMPLES + SHORTCUTS)
    # And: uint8 to float32; to half before the first conv, and back after it.
    assert casts(model) == around_convs + 3


def test_tf32_is_the_float32_graph(precisions: Path) -> None:
    with Tokenizer.open(precisions, precision="tf32") as tokenizer:
        assert tokenizer.capabilities.precision == "tf32"
    graphs = tokenizer.bundle.graphs("encode")
    assert graphs["tf32"] == graphs["fp32"]


@pytest.mark.slow
def test_precisions_of_one_file_keep_describing_it(tmp_path: Path) -> None:
    entry, path = find_model("trajectory-small"), tmp_path / "bundle"
    export_model(entry, path, weights="seeded", roles=["encode"], config=TINY)
    fixed = ClipSizes(frames=5, height=32, width=32)
    export_model(
        entry, path, weights="seeded", roles=["encode"], config=TINY, precision="tf32", sizes=fixed
    )
    graphs = open_bundle(path).graphs("encode")
    assert graphs["fp32"] == graphs["tf32"]
    assert graphs["fp32"].inputs[0].shape == ("batch", 5, 32, 32, 3)


@pytest.mark.parametrize("case", ["t1_64x64", "t5_64x64", "t17_40x72", "t17_64x64"])
def test_fp16_obeys_the_rule_against_golden_latents(precisions: Path, case: str) -> None:
    arrays = golden("video_small")
    with Tokenizer.open(precisions, precision="fp16") as tokenizer:
        latents = tokenizer.latents(arrays[f"{case}.x"])
        ids = tokenizer(arrays[f"{case}.x"])
    agreement = compare_latents(latents, arrays[f"{case}.z_raw"])
    assert agreement.passes("fp16")
    # The measured encoder really was half precision, not float32 under another name.
    assert not agreement.passes("fp32")
    assert (ids != arrays[f"{case}.ids_raw"]).sum() == agreement.changed_tokens
    assert ids.dtype == np.int32


def test_bf16_is_refused_by_onnx_runtimes_cpu_provider(precisions: Path) -> None:
    with pytest.raises(BackendError, match="Could not find an implementation for Conv"):
        Tokenizer.open(precisions, precision="bf16")
