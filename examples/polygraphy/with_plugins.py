"""Polygraphy's command with our TensorRT plugins registered: `python with_plugins.py run …`.

`polygraphy --plugins` only opens a library, which registers nothing. Engine files need this script;
for ONNX graphs `load_network.py` does the same in Polygraphy's own command.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from polygraphy import config
from polygraphy.tools._main import main

from magvit_runtime.native_libraries.lookup import missing_library, plugin_library


def register_plugins() -> ModuleType:
    """Registers the plugins with the flavour that Polygraphy uses, and returns its module.

    Raises:
        BackendError: The library was not built.
    """
    trt = importlib.import_module("tensorrt_rtx" if config.USE_TENSORRT_RTX else "tensorrt")
    # `polygraphy inspect model` imports this name where only TensorRT-RTX is installed, too.
    sys.modules.setdefault("tensorrt", trt)
    library = plugin_library()
    if library is None:
        raise missing_library("the TensorRT plugins", "nvcc and TensorRT's headers")
    trt.get_plugin_registry().load_library(str(library))
    return trt


if __name__ == "__main__":
    register_plugins()
    sys.exit(main())
