"""The backends that run an encoder's ONNX graph itself, and what keeps each from it here."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, get_args

from magvit_runtime.manifest import Precision

GraphBackend = Literal["native-cuda", "native", "onnxruntime"]
GRAPH_BACKENDS: tuple[GraphBackend, ...] = get_args(GraphBackend)


def why_not(backend: GraphBackend, precision: Precision) -> str:
    """Why a backend doesn't run graphs of a precision on this machine; "" where it may.

    ONNX Runtime says for itself what it can't run, when it opens a graph.
    """
    match backend:
        case "native":
            return "" if precision == "fp32" else "the native backend computes in float32 on a CPU"
        case "native-cuda":
            return _why_no_cuda(precision)
        case "onnxruntime":
            return ""


def onnxruntime_has_gpu() -> bool:
    """Whether there is a GPU, and an ONNX Runtime that was built for one."""
    from magvit_runtime.hardware.gpus import list_gpus

    # The driver's tool is asked last: it is a process.
    if find_spec("onnxruntime") is None or not list_gpus():
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _why_no_cuda(precision: Precision) -> str:
    from magvit_runtime.hardware.gpus import list_gpus
    from magvit_runtime.native_libraries.lookup import cuda_library

    if precision == "bf16":
        return "the native backend doesn't compute in bfloat16"
    if not list_gpus():
        return "there is no NVIDIA GPU here"
    if missing := [name for name in ("cuda", "cudnn") if find_spec(name) is None]:
        return f"not installed: {', '.join(missing)} (pip install 'magvit-runtime[native-cuda]')"
    if cuda_library() is None:
        return "libmagvit_cuda.so wasn't built (docs/gpu.md)"
    return ""
