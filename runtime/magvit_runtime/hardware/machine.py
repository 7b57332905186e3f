"""The facts about this machine that decide what can run here."""

from __future__ import annotations

from functools import cached_property

from magvit_runtime.files.digests import file_sha256
from magvit_runtime.hardware.cpu import cpu_name, usable_cpus
from magvit_runtime.hardware.flavours import InstalledFlavour, installed_flavours
from magvit_runtime.hardware.gpus import Gpu, list_gpus
from magvit_runtime.native_libraries.lookup import PLUGIN_INTERFACE, plugin_library
from magvit_runtime.types import Flavour


class Machine:
    """This machine. A fact is looked up when it is first asked for, and then kept.

    Looking up is slow: the driver's tool, for example, starts a process.

    Args:
        gpu_number: Which GPU sessions use, among those that CUDA shows; None lets them use none.
    """

    def __init__(self, gpu_number: int | None = 0) -> None:
        self.gpu_number = gpu_number

    def on(self, gpu_number: int | None) -> Machine:
        """The same machine, whose sessions use another GPU, or none."""
        other = type(self)(gpu_number)
        known = {name: fact for name, fact in vars(self).items() if name != "gpu_number"}
        vars(other).update(known if gpu_number is not None else known | {"gpus": ()})
        return other

    @cached_property
    def gpus(self) -> tuple[Gpu, ...]:
        """NVIDIA GPUs that CUDA shows this process, in CUDA's order."""
        return list_gpus()

    @property
    def gpu(self) -> Gpu | None:
        """The GPU that sessions use; None if there is none."""
        number = self.gpu_number
        return None if number is None or number >= len(self.gpus) else self.gpus[number]

    @cached_property
    def flavours(self) -> dict[Flavour, InstalledFlavour]:
        """Installed flavours of TensorRT."""
        return installed_flavours()

    @cached_property
    def plugin_interface(self) -> int | None:
        """Interface version of our TensorRT plugins, which engines call; None if there are none."""
        return None if plugin_library() is None else PLUGIN_INTERFACE

    @cached_property
    def plugin_sha256(self) -> str | None:
        """Digest of the plugins' file; None if there is none."""
        library = plugin_library()
        return None if library is None else file_sha256(library)

    @cached_property
    def name(self) -> str:
        """The CPU, how many of them this process may use, and the GPU if there is one."""
        gpus = [self.gpu.name] if self.gpu else []
        return ", ".join([cpu_name(), f"{usable_cpus()} CPUs", *gpus])
