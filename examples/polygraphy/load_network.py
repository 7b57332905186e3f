"""A model for `polygraphy run|inspect model|convert|debug build`: a graph with our plugins.

The environment variable MAGVIT_GRAPH names the graph, such as model/encode.fp16.onnx.
"""

from __future__ import annotations

import os
from typing import Any

from polygraphy.backend.trt import network_from_onnx_path
from with_plugins import register_plugins


def load_network() -> Any:
    """TensorRT's builder, network and parser."""
    trt = register_plugins()
    # Later versions and TensorRT-RTX have no other kind.
    strongly_typed = trt.__version__.startswith("10.")
    return network_from_onnx_path(os.environ["MAGVIT_GRAPH"], strongly_typed=strongly_typed)
