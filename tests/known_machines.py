"""A `Machine` whose facts are given, so that it looks nothing up."""

from __future__ import annotations

from magvit_runtime.hardware.flavours import InstalledFlavour
from magvit_runtime.hardware.gpus import Gpu
from magvit_runtime.hardware.machine import Machine


def known_gpu(name: str, sm: str) -> Gpu:
    return Gpu(name, sm, "580.1", 80000, 70000, "GPU-00000000-0000-0000-0000-000000000001")


def known_machine(
    *flavours: InstalledFlavour, gpu: Gpu | None, plugin_interface: int | None
) -> Machine:
    machine = Machine()
    vars(machine).update(
        gpus=() if gpu is None else (gpu,),
        flavours={flavour.flavour: flavour for flavour in flavours},
        plugin_interface=plugin_interface,
    )
    return machine
