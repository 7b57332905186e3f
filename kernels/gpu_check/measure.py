"""Times one way to run the encoder, from frames on the host to ids there, and checks its latents.

    python kernels/gpu_check/measure.py WAY PRECISION BUNDLE REFERENCE

Prints one line of JSON a batch size, as soon as it is known.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from magvit_runtime import open_bundle
from magvit_runtime.agreement.signs import compare_latents
from magvit_runtime.bundle import Bundle
from magvit_runtime.manifest import Precision
from magvit_runtime.sessions.protocol import Session
from magvit_runtime.sessions.selection import Backend, open_encoder

BATCHES = (1, 4, 8)
ENGINE_BACKENDS: dict[str, Backend] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt-rtx"}
WARM_UPS, REPEATS, SECONDS = 5, 50, 20.0

Device = Literal["cuda", "cpu"]
Arrays = tuple[NDArray[Any], NDArray[Any]]
Run = Callable[[NDArray[np.uint8]], Arrays]


class NotHereError(Exception):
    """What is installed can't use the GPU."""


def main() -> None:
    """Measures each batch size; one that fails is a line too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way")
    parser.add_argument("precision", choices=("fp16", "tf32", "fp32"))
    parser.add_argument("bundle", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    given = parser.parse_args()
    stored = np.load(given.reference)
    before = gpu_state().get("memory_mib", 0)
    start = time.perf_counter()
    try:
        run, version = open_way(given.way, given.precision, open_bundle(given.bundle), given.device)
    except NotHereError as reason:
        print(json.dumps({"skipped": str(reason)}))
        return
    opened = time.perf_counter() - start
    for batch in BATCHES:
        row = {"way": given.way, "precision": given.precision, "batch": batch, "version": version}
        chosen = np.arange(batch) % len(stored["clips"])
        try:
            row |= measure(run, stored["clips"][chosen], stored["latents"][chosen], given.precision)
        except Exception as error:  # The next size may do: memory is what is short most often.
            row |= {"passed": False, "error": f"{type(error).__name__}: {error}"}
        state = gpu_state()
        state["memory_mib"] = state.get("memory_mib", 0) - before
        print(json.dumps(row | {"open_seconds": round(opened, 2), "gpu": state}), flush=True)


def measure(
    run: Run, frames: NDArray[np.uint8], expected: NDArray[Any], precision: Precision
) -> dict[str, Any]:
    """Times a batch and compares its latents with the reference's."""
    start = time.perf_counter()
    ids, latents = run(frames)
    first = time.perf_counter() - start
    agreement = compare_latents(latents.astype(np.float32), expected, ids)
    for _ in range(WARM_UPS - 1):
        run(frames)
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < REPEATS and (len(times) < 3 or time.perf_counter() - begin < SECONDS):
        start = time.perf_counter()
        run(frames)
        times.append((time.perf_counter() - start) * 1e3)
    return {
        "passed": agreement.passes(precision),
        "milliseconds": round(statistics.median(times), 3),
        "milliseconds_a_clip": round(statistics.median(times) / len(frames), 3),
        "minimum": round(min(times), 3),
        "repeats": len(times),
        "first_seconds": round(first, 2),
        "rms_error_sigma": float(f"{agreement.rms:.2e}"),
        "changed_tokens": f"{agreement.changed_tokens} of {agreement.tokens}",
        "bits_outside_margin": agreement.outside_margin,
        "wrong_ids": agreement.wrong_ids,
    }


def open_way(way: str, precision: Precision, bundle: Bundle, device: Device) -> tuple[Run, str]:
    """A way by its name, and the version of what is behind it."""
    if way.startswith("torch-"):
        return open_torch(way, precision, bundle, device)
    session = open_session(way, precision, bundle, device)
    _, graph = bundle.graph("encode", "fp16" if precision == "fp16" else "fp32")

    def run(frames: NDArray[np.uint8]) -> Arrays:
        ids, latents = session.run({graph.inputs[0].name: frames}, ["ids", "latents"])
        return ids, latents

    return run, session.capabilities.version


def open_session(way: str, precision: Precision, bundle: Bundle, device: Device) -> Session:
    """A session of this project."""
    if way in ENGINE_BACKENDS:
        return open_encoder(bundle, backend=ENGINE_BACKENDS[way], precision=precision)[1]
    _, graph = bundle.graph("encode", "fp16" if precision == "fp16" else "fp32")
    path = bundle.verified_graph(graph)
    facts: Any = {"precision": precision, "threads": None, "reason": "gpu-check"}
    if way == "native":
        from magvit_runtime.sessions.native import NativeSession

        return NativeSession(path, **facts, device=device)
    from magvit_runtime.sessions.onnx_runtime import OnnxRuntimeSession

    session = OnnxRuntimeSession(path, **facts)
    if session.capabilities.device.lower() != device:
        session.close()
        raise NotHereError(f"the installed onnxruntime runs on {session.capabilities.device} only")
    return session


def open_torch(way: str, precision: Precision, bundle: Bundle, device: Device) -> tuple[Run, str]:
    """The encoder as PyTorch's users run it: `half()`, its own GroupNorm, TF32 where asked for."""
    import torch
    from torch import nn

    from magvit_export.layers.group_norm import GroupNormSiLU
    from magvit_export.layers.lfq import quantize
    from magvit_export.verification.pytorch_reference import pytorch_role

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    encoder = pytorch_role(bundle, "encode").module.get_submodule("encoder")
    # Ours copies what lies channels-last, for accuracy's sake; theirs doesn't.
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, GroupNormSiLU):
                norm = nn.GroupNorm(child.num_groups, child.num_channels, child.eps)
                norm.load_state_dict(child.state_dict())
                setattr(parent, name, nn.Sequential(norm, nn.SiLU()))
    dtype = torch.float16 if precision == "fp16" else torch.float32
    layout = torch.contiguous_format if way == "torch-eager" else torch.channels_last_3d
    encoder = encoder.to(device, dtype)
    for conv in (module for module in encoder.modules() if isinstance(module, nn.Conv3d)):
        conv.weight.data = conv.weight.data.contiguous(memory_format=layout)
    compute = torch.compile(encoder, dynamic=False) if way == "torch-compile" else encoder

    @torch.inference_mode()
    def run(frames: NDArray[np.uint8]) -> Arrays:
        pixels = torch.from_numpy(frames).to(device).movedim(-1, 1).to(dtype) / 127.5 - 1
        latents = compute(pixels.contiguous(memory_format=layout))
        return quantize(latents).cpu().numpy(), latents.float().cpu().numpy()

    return run, torch.__version__


def gpu_state() -> dict[str, int]:
    """Memory in use, SM clock and temperature of the first GPU; nothing where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    query = "--query-gpu=memory.used,clocks.sm,temperature.gpu"
    listing = subprocess.run(
        [tool, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, check=False
    )
    values = listing.stdout.partition("\n")[0].split(", ")
    names = ("memory_mib", "sm_mhz", "celsius")
    facts = zip(names, values, strict=False)  # Some machines show none of them.
    return {name: int(value) for name, value in facts if value.isdigit()}


if __name__ == "__main__":
    main()
