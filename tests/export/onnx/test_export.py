"""The ONNX file itself: names in Netron, nodes for a parser, and results of our operators."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import TensorProto, helper
from seeded_checkpoints import TINY, golden, model_shapes

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_export.onnx.functions import FUNCTIONS, OPSET

PLUGIN_ATTRIBUTES = {"plugin_namespace": b"magvit", "plugin_version": b"1"}


@pytest.fixture(scope="module")
def graph_path(tiny_bundle: Path) -> Path:
    return tiny_bundle / "encode.fp32.onnx"


@pytest.fixture(scope="module")
def model(graph_path: Path) -> onnx.ModelProto:
    return onnx.load(graph_path, load_external_data=False)


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def sizes(value: onnx.ValueInfoProto) -> list[int | str]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims]


def test_the_checker_is_content(graph_path: Path) -> None:
    onnx.checker.check_model(graph_path, full_check=True)


def test_only_our_domain_beside_the_standard_one(model: onnx.ModelProto) -> None:
    opsets = {item.domain: item.version for item in model.opset_import}
    assert opsets.keys() == {"", "magvit"}
    assert opsets[""] >= 21
    assert opsets["magvit"] == 1


def test_padding_is_in_the_convs(model: onnx.ModelProto) -> None:
    kinds = {node.op_type for node in model.graph.node}
    assert kinds == {"Transpose", "Cast", "Div", "Sub", "Conv", "Add", "GroupNormSiLU", "LFQ"}
    (first,) = [node for node in model.graph.node if node.name == "encoder.conv_in.conv_1/Conv"]
    # Causal: two frames of zeros before the first, none after the last.
    assert attributes(first)["pads"] == [2, 1, 1, 0, 1, 1]


def test_custom_operators_are_nodes_that_a_plugin_can_take(model: onnx.ModelProto) -> None:
    custom = [node for node in model.graph.node if node.domain == "magvit"]
    norms = [node for node in custom if node.op_type == "GroupNormSiLU"]
    (lfq,) = [node for node in custom if node.op_type == "LFQ"]
    assert len(norms) == sum("norm" in k and k.endswith("weight") for k in encoder_shapes())
    for node in norms:
        assert attributes(node) == {
            "num_groups": 32,
            "epsilon": pytest.approx(1e-6),
            **PLUGIN_ATTRIBUTES,
        }
    assert attributes(lfq) == PLUGIN_ATTRIBUTES
    assert (list(lfq.input), list(lfq.output)) == (["latents"], ["ids"])


def test_custom_operators_are_defined_in_the_file(model: onnx.ModelProto) -> None:
    """So every runtime runs them without a library, as ONNX Runtime does in all parity tests."""
    assert {(item.domain, item.name) for item in model.functions} == {
        ("magvit", "GroupNormSiLU"),
        ("magvit", "LFQ"),
    }


def encoder_shapes() -> dict[str, tuple[int, ...]]:
    return {k: shape for k, shape in model_shapes(TINY).items() if k.startswith("encoder.")}


def test_weights_lie_beside_the_graph_under_their_checkpoint_names(
    model: onnx.ModelProto, graph_path: Path
) -> None:
    weights = {item.name: item for item in model.graph.initializer}
    shapes = encoder_shapes()
    assert {name: tuple(weights[name].dims) for name in shapes} == shapes
    assert set(weights) - set(shapes) == {"Div/constant_1", "Sub/constant_1"}
    for name, shape in shapes.items():
        if np.prod(shape) > 1024:
            location = {item.key: item.value for item in weights[name].external_data}["location"]
            assert location == "encode.fp32.data"
    assert graph_path.stat().st_size < 100_000


def test_names_follow_the_modules(model: onnx.ModelProto) -> None:
    """A node is named after the module that it computes, and its result after the node."""
    weights = {item.name for item in model.graph.initializer}
    for node in model.graph.node:
        own = [name for name in node.input if name in weights and name.startswith("encoder.")]
        for name in own:
            assert node.name.rsplit("/", 1)[0] == name.rsplit(".", 1)[0]
        if node.output[0] not in {"ids", "latents"}:
            assert list(node.output) == [node.name]
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert "encoder.down.0.block.0/Add" in names


def test_the_interface(model: onnx.ModelProto) -> None:
    (frames,) = model.graph.input
    ids, latents = model.graph.output
    assert (frames.name, ids.name, latents.name) == ("frames", "ids", "latents")
    types = [value.type.tensor_type.elem_type for value in (frames, ids, latents)]
    assert types == [TensorProto.UINT8, TensorProto.INT32, TensorProto.FLOAT]


def test_nothing_of_the_exporting_machine_is_in_the_file(graph_path: Path) -> None:
    content = graph_path.read_bytes()
    for trace in (b"/site-packages", b"/home/", b"/root/", b"/work/", b"/tmp/", b".py", b"File "):
        assert trace not in content
    assert os.uname().nodename.encode() not in content


EXPORT = """
import sys
from pathlib import Path
from seeded_checkpoints import TINY
from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
export_model(
    find_model("trajectory-small"), Path(sys.argv[1]), weights="seeded", config=TINY
)
"""


@pytest.mark.slow
def test_equal_weights_give_equal_bytes_in_every_process(tiny_bundle: Path, tmp_path: Path) -> None:
    """Python's hashes, and with them the order of sets, differ from process to process."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", EXPORT, str(tmp_path / seed)],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for seed in ("1", "2")
    ]
    assert [process.wait() for process in processes] == [0, 0]
    for name in ("encode.fp32.onnx", "encode.fp32.data", "decode.fp32.onnx", "decode.fp32.data"):
        first, second = ((tmp_path / seed / name).read_bytes() for seed in ("1", "2"))
        assert first == second == (tiny_bundle / name).read_bytes()


@pytest.fixture(scope="module")
def fixed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fixed") / "bundle"
    export_model(
        find_model("trajectory-small"),
        path,
        weights="seeded",
        roles=["encode"],
        config=TINY,
        sizes=ClipSizes(batch=1, frames=3, height=16, width=24),
    )
    return path


def test_sizes_are_the_callers_unless_they_were_fixed(
    model: onnx.ModelProto, fixed_bundle: Path
) -> None:
    assert sizes(model.graph.input[0]) == ["batch", "frames", "height", "width", 3]
    fixed = onnx.load(fixed_bundle / "encode.fp32.onnx", load_external_data=False)
    assert sizes(fixed.graph.input[0]) == [1, 3, 16, 24, 3]
    assert sizes(fixed.graph.output[0]) == [1, 3, 8, 12]
    assert sizes(fixed.graph.output[1]) == [1, 18, 3, 8, 12]


def test_fixed_and_free_sizes_give_the_same_ids(tiny_bundle: Path, fixed_bundle: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 24, 3), dtype=np.uint8)
    ids = [
        onnxruntime.InferenceSession(path / "encode.fp32.onnx").run(["ids"], {"frames": frames})
        for path in (tiny_bundle, fixed_bundle)
    ]
    np.testing.assert_array_equal(ids[0], ids[1])


def run_function(
    name: str, output_type: int, inputs: dict[str, NDArray[np.generic]], **more: object
) -> NDArray[np.generic]:
    """One of our operators alone in a graph, through ONNX Runtime."""
    values = [
        helper.make_tensor_value_info(
            key, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for key, array in inputs.items()
    ]
    first = next(iter(inputs.values())).shape
    shape = (first[0], *first[2:]) if name == "LFQ" else first
    node = helper.make_node(
        name,
        list(inputs),
        ["out"],
        domain="magvit",
        plugin_namespace="magvit",
        plugin_version="1",
        **more,
    )
    out = helper.make_tensor_value_info("out", output_type, shape)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("magvit", 1)]
    model = helper.make_model(
        helper.make_graph([node], "one", values, [out]),
        functions=[FUNCTIONS[name]()],
        opset_imports=opsets,
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)[0]


def group_norm_in_float64(
    x: NDArray[np.generic],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    silu: bool,
    num_groups: int = 32,
) -> NDArray[np.float64]:
    normalized = F.group_norm(torch.from_numpy(x).double(), num_groups, eps=1e-6)
    per_channel = (-1, x.shape[1], *[1] * (x.ndim - 2))
    out = normalized * torch.from_numpy(weight).double().view(per_channel)
    out = out + torch.from_numpy(bias).double().view(per_channel)
    return (F.silu(out) if silu else out).numpy()


def noise(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32) * 3 + 1


def flat_background(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """One value everywhere except in a small patch, as in trajectory clips."""
    x = np.full(shape, 0.7371, np.float32)
    x[..., 3:6, 3:6] += noise((*shape[:-2], 3, 3))
    return x


@pytest.mark.parametrize("name", ["GroupNorm", "GroupNormSiLU"])
@pytest.mark.parametrize("affine", ["C", "NC"])
@pytest.mark.parametrize("shape", [(2, 64, 12, 10), (3, 32, 5, 12, 10)], ids=["image", "video"])
@pytest.mark.parametrize("content", [noise, flat_background])
def test_group_norm_against_float64(content, shape: tuple[int, ...], affine: str, name: str):
    x = content(shape)
    random = np.random.default_rng(2)
    affine_shape = shape[1:2] if affine == "C" else shape[:2]
    weight = random.standard_normal(affine_shape, dtype=np.float32)
    bias = random.standard_normal(affine_shape, dtype=np.float32)
    inputs = {"x": x, "weight": weight, "bias": bias}
    out = run_function(name, TensorProto.FLOAT, inputs, num_groups=32, epsilon=1e-6)
    expected = group_norm_in_float64(x, weight, bias, silu=name == "GroupNormSiLU")
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


def test_group_norm_of_a_million_positions_keeps_float32s_accuracy() -> None:
    """A plain float32 sum over this many values would be wrong by up to one per cent."""
    x = flat_background((1, 1, 16, 256, 256))
    weight, bias = np.ones(1, np.float32), np.zeros(1, np.float32)
    inputs = {"x": x, "weight": weight, "bias": bias}
    out = run_function("GroupNormSiLU", TensorProto.FLOAT, inputs, num_groups=1, epsilon=1e-6)
    expected = group_norm_in_float64(x, weight, bias, silu=True, num_groups=1)
    # The patch is hundreds of deviations away from the background, hence the relative part.
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["GroupNorm", "GroupNormSiLU"])
def test_group_norm_of_half_precision_rounds_only_its_result(name: str) -> None:
    """Values whose squares overflow float16 show that the statistics are float32."""
    x = (noise((2, 64, 4, 6, 6)) * 1000).astype(np.float16)
    weight, bias = np.ones(64, np.float32), np.zeros(64, np.float32)
    inputs = {"x": x, "weight": weight, "bias": bias}
    out = run_function(name, TensorProto.FLOAT16, inputs, num_groups=32, epsilon=1e-6)
    assert out.dtype == np.float16
    expected = group_norm_in_float64(x, weight, bias, silu=name == "GroupNormSiLU")
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("bits", [18, 14])
def test_lfq_of_the_golden_edge_cases(bits: int) -> None:
    """Zeros of both signs, NaN, infinities, denormals: only z > 0 sets a bit."""
    data = golden("lfq")
    ids = run_function("LFQ", TensorProto.INT32, {"z": data[f"z{bits}"]})
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, data[f"ids{bits}"])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 31, 3, 4), (1, 18, 2, 3, 4)])
def test_lfq_of_every_width_and_type(shape: tuple[int, ...], dtype: type[np.floating]) -> None:
    z = np.random.default_rng(3).standard_normal(shape).astype(dtype)
    ids = run_function("LFQ", TensorProto.INT32, {"z": z})
    powers = 2 ** np.arange(shape[1]).reshape(-1, *[1] * (len(shape) - 2))
    np.testing.assert_array_equal(ids, ((z > 0) * powers).sum(axis=1))
