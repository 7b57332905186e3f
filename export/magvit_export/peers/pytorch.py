"""A role of a bundle in PyTorch as users run it: eager, compiled, and through Torch-TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from magvit_export.loading import set_role_precision
from magvit_export.verification.pytorch_reference import pytorch_role
from magvit_runtime.benchmarks.encoders import Frames, Ids, TimedEncoder
from magvit_runtime.benchmarks.results import EncoderRecord
from magvit_runtime.bundle.manifest import Precision, Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.errors import BackendError


def eager(
    name: str,
    bundle: Bundle,
    role: Role,
    precision: Precision,
    threads: int,
    weights: str | None,
) -> TimedEncoder:
    """PyTorch as it comes, tensors contiguous."""
    model, device = _model(bundle, role, precision, threads, weights)
    return _peer(name, model, device, precision, f"contiguous, {threads} threads")


def compiled(
    name: str,
    bundle: Bundle,
    role: Role,
    precision: Precision,
    threads: int,
    weights: str | None,
) -> TimedEncoder:
    """`torch.compile` with weights in channels_last_3d; max-autotune on a GPU."""
    model, device = _model(bundle, role, precision, threads, weights)
    # A decoder is one of videos where it takes [N, t, h, w].
    axes = len(bundle.graph(role, precision)[1].inputs[0].shape) + (role == "decode")
    is_video = axes == 5
    layout = torch.channels_last_3d if is_video else torch.channels_last
    model = model.to(memory_format=layout)  # type: ignore[call-overload]
    mode = "max-autotune" if device.type == "cuda" else "default"
    run: Any = torch.compile(model, mode=mode, dynamic=False)
    settings = f"mode {mode}, channels last, {threads} threads"
    return _peer(name, run, device, precision, settings)


def tensorrt(
    name: str,
    bundle: Bundle,
    role: Role,
    precision: Precision,
    threads: int,
    weights: str | None,
) -> TimedEncoder:
    """`torch.compile` with Torch-TensorRT as its backend. Not run on a GPU yet.

    Raises:
        BackendError: There is no GPU.
    """
    model, device = _model(bundle, role, precision, threads, weights)
    if device.type != "cuda":
        raise BackendError("Torch-TensorRT needs an NVIDIA GPU")
    run: Any = torch.compile(model, backend="torch_tensorrt", dynamic=False)
    return _peer(name, run, device, precision, "torch.compile, backend torch_tensorrt")


def _model(
    bundle: Bundle, role: Role, precision: Precision, threads: int, weights: str | None
) -> tuple[nn.Module, torch.device]:
    torch.set_num_threads(threads)
    encoder = pytorch_role(bundle, role, weights)
    set_role_precision(encoder.export, encoder.module, precision)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return encoder.module.to(device), device


def _peer(
    name: str,
    run: Callable[[Tensor], tuple[Tensor, ...]],
    device: torch.device,
    precision: Precision,
    settings: str,
) -> TimedEncoder:
    def encode(clips: Frames) -> Ids:
        with torch.inference_mode():
            ids, *_ = run(torch.from_numpy(clips).to(device))
            return np.asarray(ids.cpu().numpy())  # Waits for the GPU.

    record = EncoderRecord(name, "peer", str(torch.__version__), str(device), precision, settings)
    return TimedEncoder(record, encode, close=torch.compiler.reset)
