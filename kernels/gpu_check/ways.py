"""The ways to run the encoder that gpu-check compares: this project's sessions, and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.backend import Session
from magvit_runtime.backends.opening import BackendName, open_role
from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.cuda.stage_times import STAGES

if TYPE_CHECKING:
    from torch import Tensor

ENGINE_BACKENDS: dict[str, BackendName] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt-rtx"}

Device = Literal["cuda", "cpu"]
Frames = NDArray[np.uint8]
Arrays = tuple[NDArray[Any], NDArray[Any]]


class NotHereError(Exception):
    """The installed package can't use the GPU."""


@dataclass(frozen=True)
class Way:
    """One way to run the encoder.

    Attributes:
        version: Version of its library.
        run: uint8 frames [N, T, H, W, 3] to int32 ids and latents, all in NumPy.
        compute_seconds: Runs it once more and returns the GPU's seconds, by CUDA events, from
            frames to ids and latents, both on the GPU. None if that can't be measured.
    """

    version: str
    run: Callable[[Frames], Arrays]
    compute_seconds: Callable[[Frames], float] | None


def open_way(name: str, precision: Precision, bundle: Bundle, device: Device) -> Way:
    """A way by its name.

    Raises:
        NotHereError: The installed package can't use the GPU.
    """
    if name.startswith("torch-"):
        return _open_torch(name, precision, bundle, device)
    session = _open_session(name, precision, bundle, device)
    _, graph = bundle.graph("encode", "fp16" if precision == "fp16" else "fp32")
    # Only for sessions that time their own stages, on a GPU.
    stages = session.stage_times

    def run(frames: Frames) -> Arrays:
        ids, latents = session.run({graph.inputs[0].name: frames}, ["ids", "latents"])
        return ids, latents

    def compute_seconds(frames: Frames) -> float:
        assert stages is not None
        stages.seconds = []
        run(frames)
        (seconds,), stages.seconds = stages.seconds, None
        return seconds[STAGES.index("compute")]

    version = session.capabilities.version
    return Way(version, run, None if stages is None else compute_seconds)


def _open_session(name: str, precision: Precision, bundle: Bundle, device: Device) -> Session:
    if name in ENGINE_BACKENDS:
        return open_role(bundle, "encode", backend=ENGINE_BACKENDS[name], precision=precision)[1]
    _, graph = bundle.graph("encode", "fp16" if precision == "fp16" else "fp32")
    path = bundle.verified_graph(graph)
    if name == "native":
        return _open_native(path, precision, device)
    from magvit_runtime.backends.onnx_runtime.session import OnnxRuntimeSession

    session = OnnxRuntimeSession(path, precision=precision, threads=None, reason="gpu-check")
    if session.capabilities.device.lower() != device:
        session.close()
        raise NotHereError(f"the installed onnxruntime runs on {session.capabilities.device} only")
    return session


def _open_native(path: Path, precision: Precision, device: Device) -> Session:
    if device == "cuda":
        from magvit_runtime.backends.native.cuda.session import CudaSession

        return CudaSession(path, precision=precision, reason="gpu-check")
    from magvit_runtime.backends.native.cpu.session import CpuSession

    return CpuSession(path, precision=precision, threads=None, reason="gpu-check")


def _open_torch(name: str, precision: Precision, bundle: Bundle, device: Device) -> Way:
    """The encoder as PyTorch's users run it: `half()`, its own GroupNorm, TF32 if asked for."""
    import torch
    from torch import nn

    from magvit_export.layers.group_norm import GroupNormSiLU
    from magvit_export.layers.lfq import quantize
    from magvit_export.verification.pytorch_reference import pytorch_role

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    encoder = pytorch_role(bundle, "encode").module.get_submodule("encoder")
    # Our GroupNorm copies channels-last input, to be accurate; PyTorch's doesn't.
    for parent in list(encoder.modules()):
        for child_name, child in list(parent.named_children()):
            if isinstance(child, GroupNormSiLU):
                norm = nn.GroupNorm(child.num_groups, child.num_channels, child.eps)
                norm.load_state_dict(child.state_dict())
                setattr(parent, child_name, nn.Sequential(norm, nn.SiLU()))
    dtype = torch.float16 if precision == "fp16" else torch.float32
    layout = torch.contiguous_format if name == "torch-eager" else torch.channels_last_3d
    encoder = encoder.to(device, dtype)
    for conv in (module for module in encoder.modules() if isinstance(module, nn.Conv3d)):
        conv.weight.data = conv.weight.data.contiguous(memory_format=layout)

    def encode(frames: Tensor) -> tuple[Tensor, Tensor]:
        pixels = frames.movedim(-1, 1).to(dtype) / 127.5 - 1
        latents = encoder(pixels.contiguous(memory_format=layout))
        return quantize(latents), latents.float()

    compute = torch.compile(encode, dynamic=False) if name == "torch-compile" else encode

    @torch.inference_mode()
    def run(frames: Frames) -> Arrays:
        ids, latents = compute(torch.from_numpy(frames).to(device))
        return ids.cpu().numpy(), latents.cpu().numpy()

    @torch.inference_mode()
    def compute_seconds(frames: Frames) -> float:
        on_device = torch.from_numpy(frames).to(device)
        new_event: Any = torch.cuda.Event
        begin, end = new_event(enable_timing=True), new_event(enable_timing=True)
        # A run before the timed one, so that the GPU doesn't wait for Python between launches.
        compute(on_device)
        begin.record()
        compute(on_device)
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    return Way(torch.__version__, run, compute_seconds if device == "cuda" else None)
