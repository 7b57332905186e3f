"""TensorRT's failures in plain words."""

from __future__ import annotations

import os

from magvit_export.engines.protocol import Failed
from magvit_runtime.errors import MagvitError
from magvit_runtime.hardware.gpus import list_gpus


class BuildError(MagvitError):
    """TensorRT could not build an engine."""


class BuildInterruptedError(BuildError):
    """Ctrl-C stopped a build; nothing was written."""


def build_error(failure: Failed) -> BuildError:
    """The error to raise for a failure that the worker reported."""
    if failure.interrupted:
        return BuildInterruptedError("the build was interrupted; nothing was written")
    message = " ".join(failure.message.split()) or "TensorRT gave no reason"
    lowered = message.lower()
    if "could not find any implementation" in lowered:
        return BuildError(
            "no kernel fits one layer: it needs more memory than there is, "
            "or this GPU has no kernel for its type",
            found=f"{message} ({free_memory()})",
            mend="free GPU memory, lower --profile or raise --workspace; "
            "if memory is plenty, use another --precision",
        )
    if "workspace limit" in lowered:
        return BuildError(
            "a layer needs more scratch memory than --workspace allows",
            found=message,
            mend="raise --workspace, or leave it out",
        )
    if "out of memory" in lowered or "outofmemory" in lowered:
        return BuildError(
            "out of memory while building",
            found=f"{message} ({free_memory()})",
            mend="lower --profile, close other programs on the GPU, "
            "or raise --workspace where it was given",
        )
    if "timing cache" in lowered:
        return BuildError(
            "the timing cache doesn't say which kernel to take for a layer",
            found=message,
            mend="build once without --repeatable, with the same options",
        )
    return BuildError(f"TensorRT failed while {failure.during}", found=message)


def free_memory() -> str:
    """Free memory of the GPU and of the machine."""
    pages, size = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    host = f"{pages * size / 2**30:.1f} GiB of host memory free"
    gpus = list_gpus()
    return f"{gpus[0].free_mib / 1024:.1f} GiB of GPU memory free, {host}" if gpus else host
