"""Packages of the extras: which are installed, and what to install for the others."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from magvit_runtime.errors import MissingPackageError

# By a package's import name: its name for people, and the extras that install it, the usual one
# first.
EXTRAS_OF: dict[str, tuple[str, tuple[str, ...]]] = {
    "PIL": ("Pillow", ("data", "report", "evaluate")),
    "av": ("PyAV", ("video",)),
    "cuda": ("cuda-bindings", ("tensorrt", "rtx", "native-cuda")),
    "cuda.core": ("cuda-core", ("tensorrt", "rtx", "native-cuda")),
    "cudnn": ("nvidia-cudnn-frontend", ("native-cuda",)),
    "huggingface_hub": ("huggingface_hub", ("hub", "export")),
    "jinja2": ("Jinja", ("report",)),
    "onnx": ("onnx", ("export",)),
    "onnx_ir": ("onnx-ir", ("export",)),
    "onnxruntime": ("ONNX Runtime", ("cpu", "cuda")),
    "onnxscript": ("onnxscript", ("export",)),
    "openvino": ("OpenVINO", ("peers",)),
    "plotly": ("Plotly", ("report",)),
    "polygraphy": ("Polygraphy", ("tensorrt", "rtx")),
    "pyarrow": ("pyarrow", ("data", "ray")),
    "ray": ("Ray", ("ray",)),
    "safetensors": ("safetensors", ("export",)),
    "skimage": ("scikit-image", ("evaluate",)),
    "tensorrt": ("TensorRT", ("tensorrt",)),
    "tensorrt_rtx": ("TensorRT for RTX", ("rtx",)),
    "torch": ("torch", ("export",)),
    "torchmetrics": ("torchmetrics", ("feature-distances",)),
    "transformers": ("transformers", ("features",)),
}


def is_installed(module: str) -> bool:
    """Whether a top-level module can be found; it isn't imported."""
    return find_spec(module) is not None


def missing_package(module: str, purpose: str) -> MissingPackageError:
    """The error for a module that can't be found.

    Args:
        module: The module, or one inside it: "pyarrow.parquet".
        purpose: The action that needs it: "reading a video".
    """
    top = module.partition(".")[0]
    package, extras = EXTRAS_OF.get(module) or EXTRAS_OF.get(top, (top, ()))
    return MissingPackageError(package, *extras, purpose=purpose)


def installed_versions(distributions: Iterable[str]) -> dict[str, str | None]:
    """Versions of distributions; None for those that aren't installed."""
    # Imported here, because it takes longer than all the rest of `import magvit_runtime`.
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
