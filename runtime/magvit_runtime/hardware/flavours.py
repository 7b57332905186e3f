"""The two flavours of TensorRT: which are installed, and what their engines run on.

`tensorrt` builds on the GPU that the engine is for. `tensorrt-rtx` builds on any machine, also
without a GPU, for several GPU generations at once. At run time it compiles for the GPU it runs on.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from magvit_runtime.errors import BackendError
from magvit_runtime.hardware.packages import installed_versions, missing_package
from magvit_runtime.types import Flavour as Flavour

# Compute capabilities that one portable TensorRT-RTX engine runs on, by its own error message
# (docs/engines.md).
RTX_PORTABLE = ("8.0", "8.6", "8.9", "12.0", "12.1")
MINIMUM_VERSION: dict[Flavour, tuple[int, int]] = {"tensorrt": (10, 13), "tensorrt-rtx": (1, 2)}

MODULES: dict[Flavour, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_DISTRIBUTIONS: dict[Flavour, tuple[str, ...]] = {
    "tensorrt": ("tensorrt_cu13", "tensorrt_cu12", "tensorrt"),
    "tensorrt-rtx": ("tensorrt_rtx_cu13", "tensorrt_rtx_cu12", "tensorrt_rtx"),
}
INSTALL: dict[Flavour, str] = {
    "tensorrt": "pip install 'magvit-runtime[tensorrt]'",
    "tensorrt-rtx": "pip install 'magvit-runtime[rtx]'",
}


@dataclass(frozen=True)
class InstalledFlavour:
    """A flavour that is installed here.

    Attributes:
        flavour: Its name.
        version: Its version.
        cuda: Major version of CUDA that it was built for; "" where its package doesn't say.
    """

    flavour: Flavour
    version: str
    cuda: str


def installed_flavours() -> dict[Flavour, InstalledFlavour]:
    """Flavours whose packages are installed; nothing is imported."""
    found: dict[Flavour, InstalledFlavour] = {}
    for flavour, names in _DISTRIBUTIONS.items():
        versions = installed_versions(names)
        first = next(((name, known) for name, known in versions.items() if known), None)
        if first is not None:
            name, installed = first
            cuda = name.rpartition("_cu")[2] if "_cu" in name else ""
            found[flavour] = InstalledFlavour(flavour, installed, cuda)
    return found


def import_flavour(flavour: Flavour) -> Any:
    """The Python module of a flavour.

    Raises:
        BackendError: It isn't installed, is too old, or its libraries can't be loaded.
    """
    try:
        module = import_module(MODULES[flavour])
    except ImportError as error:
        if error.name == MODULES[flavour]:
            raise missing_package(MODULES[flavour], f"the backend {flavour}") from error
        raise BackendError(
            f"{flavour} can't be imported", found=str(error), mend=INSTALL[flavour]
        ) from error
    least = MINIMUM_VERSION[flavour]
    if tuple(int(part) for part in module.__version__.split(".")[:2]) < least:
        raise BackendError(
            f"{flavour} is too old",
            found=module.__version__,
            expected=f"{least[0]}.{least[1]} or later",
            mend=INSTALL[flavour] + " --upgrade",
        )
    return module


def rtx_refusal(sm: str) -> str | None:
    """Why TensorRT-RTX doesn't support a compute capability; None if it does."""
    # A portable engine also runs on compute capabilities after 12.1.
    if sm in RTX_PORTABLE or int(sm.split(".")[0]) > 12:
        return None
    if sm == "7.5":
        return (
            "TensorRT-RTX has no float32 3-D convolution for compute capability 7.5, "
            "and the encoder's last conv is one"
        )
    return (
        f"TensorRT-RTX does not support compute capability {sm} "
        f"(it runs on {', '.join(RTX_PORTABLE)} and later)"
    )
