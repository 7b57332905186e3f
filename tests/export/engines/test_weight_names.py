"""The names that TensorRT-RTX's parser gives to weights are those that engines are refitted by."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from magvit_runtime.bundle.onnx_file import read_graph
from magvit_runtime.bundle.onnx_weights import read_weights
from magvit_runtime.native_libraries.lookup import plugin_library

pytestmark = [
    pytest.mark.skipif(
        find_spec("tensorrt_rtx") is None,
        reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13",
    ),
    pytest.mark.skipif(
        plugin_library() is None,
        reason="libmagvit_plugins.so was not built: it needs nvcc and TensorRT's headers",
    ),
]

# A refittable engine can't be built without a GPU, but a network knows its weights by name: it
# marks them refittable, and refuses any other name.
PARSE = """
import json, sys
import tensorrt_rtx as trt
logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
builder = trt.Builder(logger)
builder.get_plugin_registry().load_library(sys.argv[2])
network = builder.create_network(0)
assert trt.OnnxParser(network, logger).parse_from_file(sys.argv[1])
names = json.loads(sys.argv[3])
print(json.dumps([name for name in names if not network.mark_weights_refittable(name)]))
"""


def unknown(graph: Path, names: list[str], folder: Path) -> list[str]:
    """The names that no weights of a parsed network have."""
    import tensorrt_rtx_libs

    library = next(Path(tensorrt_rtx_libs.__path__[0]).glob("libtensorrt_rtx.so.*"))
    (folder / "libtensorrt_rtx.so").symlink_to(library)
    search = os.pathsep.join(filter(None, [str(folder), os.environ.get("LD_LIBRARY_PATH", "")]))
    arguments = [str(graph), str(plugin_library()), json.dumps(names)]
    parsed = subprocess.run(
        [sys.executable, "-c", PARSE, *arguments],
        env={**os.environ, "LD_LIBRARY_PATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert parsed.returncode == 0, parsed.stderr
    return json.loads(parsed.stdout.splitlines()[-1])


def test_weights_have_their_names_in_the_onnx_file(engine_bundle: Path, tmp_path: Path) -> None:
    graph = engine_bundle / "encode.fp16.onnx"
    names = list(read_graph(graph).tensors)
    assert len(names) > 20
    assert set(names) <= set(read_weights(graph))
    assert unknown(graph, [*names, "no such weights"], tmp_path) == ["no such weights"]
