"""TensorRT-RTX, which builds engines with no GPU, makes plugin layers of our ONNX nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
pytest.importorskip(
    "tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13"
)

from onnx import TensorProto, helper  # noqa: E402 - only where ONNX is installed

PLUGIN = {"plugin_namespace": "magvit", "plugin_version": "1"}

# In a separate process: a failed parse can abort, and LD_LIBRARY_PATH is read at the start.
BUILD = """
import json, sys
import tensorrt_rtx as trt

logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
builder.get_plugin_registry().load_library(sys.argv[2])
network = builder.create_network(0)
parser = trt.OnnxParser(network, logger)
if not parser.parse_from_file(sys.argv[1]):
    sys.exit("; ".join(parser.get_error(i).desc() for i in range(parser.num_errors)))
config = builder.create_builder_config()
profile = builder.create_optimization_profile()
for index in range(network.num_inputs):
    tensor = network.get_input(index)
    shape = tuple(tensor.shape)
    if -1 in shape:
        profile.set_shape(tensor.name, *((n, *shape[1:]) for n in (1, 2, 4)))
config.add_optimization_profile(profile)
layers = [(network.get_layer(i).type.name, network.get_layer(i).name)
          for i in range(network.num_layers)]
outputs = {network.get_output(i).name: [network.get_output(i).dtype.name,
           list(network.get_output(i).shape)] for i in range(network.num_outputs)}
plan = builder.build_serialized_network(network, config)
size = 0 if plan is None else plan.nbytes
print(json.dumps({"layers": layers, "outputs": outputs, "plan_bytes": size}))
"""


@pytest.fixture(scope="module")
def parser_library_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unversioned library name that TensorRT-RTX's parser opens."""
    import tensorrt_rtx_libs

    folder = tmp_path_factory.mktemp("tensorrt_rtx")
    library = next(Path(tensorrt_rtx_libs.__path__[0]).glob("libtensorrt_rtx.so.*"))
    (folder / "libtensorrt_rtx.so").symlink_to(library)
    return folder


def build(model: onnx.ModelProto, folder: Path, plugins: Path, libraries: Path) -> dict:
    file = folder / "model.onnx"
    onnx.save(model, file)
    search = os.pathsep.join(filter(None, [str(libraries), os.environ.get("LD_LIBRARY_PATH", "")]))
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(file), str(plugins)],
        env={**os.environ, "LD_LIBRARY_PATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return json.loads(built.stdout.splitlines()[-1])


def model_of(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    dtype: int,
    outputs: Sequence[onnx.ValueInfoProto],
    channels: int,
) -> onnx.ModelProto:
    constants = [
        helper.make_tensor("weight", TensorProto.FLOAT, [channels], [1.0] * channels),
        helper.make_tensor("bias", TensorProto.FLOAT, [channels], [0.5] * channels),
    ]
    graph = helper.make_graph(
        nodes, "graph", [helper.make_tensor_value_info("x", dtype, shape)], outputs, constants
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("magvit", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16])
@pytest.mark.parametrize("rest", [(16,), (16, 8), (5, 16, 8)])
def test_nodes_become_plugin_layers(
    dtype: int,
    rest: tuple[int, ...],
    tmp_path: Path,
    plugin_library: Path,
    parser_library_path: Path,
) -> None:
    nodes = [
        helper.make_node(
            "GroupNormSiLU",
            ["x", "weight", "bias"],
            ["y"],
            "silu",
            domain="magvit",
            num_groups=6,
            epsilon=1e-6,
            **PLUGIN,
        ),
        helper.make_node(
            "GroupNorm", ["y"], ["z"], "norm", domain="magvit", num_groups=9, **PLUGIN
        ),
        helper.make_node("LFQ", ["z"], ["ids"], "quantize", domain="magvit", **PLUGIN),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT32, ["N", *rest])
    model = model_of(nodes, ["N", 18, *rest], dtype, [ids], 18)
    found = build(model, tmp_path, plugin_library, parser_library_path)
    plugins = [name for kind, name in found["layers"] if kind == "PLUGIN_V3"]
    assert plugins == ["silu", "norm", "quantize"]
    assert found["outputs"] == {"ids": ["INT32", [-1, *rest]]}
    assert found["plan_bytes"] > 0


def test_packed_bits_are_a_second_output(
    tmp_path: Path, plugin_library: Path, parser_library_path: Path
) -> None:
    node = helper.make_node(
        "LFQ", ["x"], ["ids", "packed"], "quantize", domain="magvit", packed_bits=1, **PLUGIN
    )
    outputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT32, [1, 5, 4, 4]),
        helper.make_tensor_value_info("packed", TensorProto.INT8, [1, 5, 4, 4, 3]),
    ]
    model = model_of([node], [1, 18, 5, 4, 4], TensorProto.FLOAT, outputs, 18)
    found = build(model, tmp_path, plugin_library, parser_library_path)
    assert found["outputs"] == {
        "ids": ["INT32", [1, 5, 4, 4]],
        "packed": ["INT8", [1, 5, 4, 4, 3]],
    }
    assert found["plan_bytes"] > 0


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_a_codebook_becomes_a_plugin_layer(
    dtype: int, tmp_path: Path, plugin_library: Path, parser_library_path: Path
) -> None:
    """With the attribute of the function's definition, which is none of the plugin's."""
    node = helper.make_node(
        "CodebookArgmax",
        ["x", "codebook"],
        ["ids", "margins"],
        "search",
        domain="magvit",
        tile=50,
        **PLUGIN,
    )
    outputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT32, ["N", 4, 6]),
        helper.make_tensor_value_info("margins", TensorProto.FLOAT, ["N", 4, 6]),
    ]
    model = model_of([node], ["N", 18, 4, 6], dtype, outputs, 18)
    rows = [0.5] * (100 * 18)
    model.graph.initializer.append(
        helper.make_tensor("codebook", TensorProto.FLOAT, [100, 18], rows)
    )
    found = build(model, tmp_path, plugin_library, parser_library_path)
    assert [name for kind, name in found["layers"] if kind == "PLUGIN_V3"] == ["search"]
    assert found["outputs"] == {"ids": ["INT32", [-1, 4, 6]], "margins": ["FLOAT", [-1, 4, 6]]}
    assert found["plan_bytes"] > 0
