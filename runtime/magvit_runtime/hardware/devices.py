"""Names of devices: "cpu", "cuda" (CUDA's first GPU), "cuda:1", and a GPU's or MIG part's UUID.

A process sees parts of a GPU (MIG) only through CUDA_VISIBLE_DEVICES, and CUDA shows it one part:
https://docs.nvidia.com/datacenter/tesla/mig-user-guide/, "CUDA Device Enumeration".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.hardware.machine import Machine

# Several devices as `devices=` takes them; "all" are all GPUs that CUDA shows.
DeviceNames = Literal["all"] | Sequence[str]


def gpu_number(name: str, machine: Machine) -> int | None:
    """The number of a device among the GPUs that CUDA shows; None is the CPU.

    Args:
        name: The device.
        machine: This machine.

    Raises:
        InputError: No device is called so.
        BackendError: There is no such GPU here.
    """
    if name == "cpu":
        return None
    gpus = machine.gpus
    if match := re.fullmatch(r"cuda(?::(\d+))?", name):
        number = int(match[1] or 0)
        found = [number] if number < len(gpus) else []
    elif name.startswith(("GPU-", "MIG-")):
        found = [index for index, gpu in enumerate(gpus) if gpu.uuid.startswith(name)]
    else:
        raise InputError(
            "no device is called so",
            found=repr(name),
            expected='"cpu", "cuda", "cuda:1", or a UUID as `nvidia-smi -L` lists them',
        )
    if len(found) != 1:
        here = ", ".join(f"cuda:{i} {gpu.name} {gpu.uuid}" for i, gpu in enumerate(gpus))
        raise BackendError(
            f"CUDA shows this process no device {name}",
            found=here or "no NVIDIA GPU",
            mend=f"set CUDA_VISIBLE_DEVICES={name} before the process starts"
            if name.startswith("MIG-")
            else "`nvidia-smi -L` lists the GPUs, and CUDA_VISIBLE_DEVICES may hide some",
        )
    return found[0]


def gpu_numbers(names: DeviceNames, machine: Machine) -> tuple[int | None, ...]:
    """The numbers of several devices, as `gpu_number` gives them.

    Raises:
        InputError: No device is named, a name is none, or a GPU is named twice.
        BackendError: There is no such GPU here.
    """
    if names == "all":
        if not machine.gpus:
            raise BackendError(
                "CUDA shows this process no GPU", mend="leave `devices` out to run on the CPU"
            )
        return tuple(range(len(machine.gpus)))
    if isinstance(names, str):
        raise InputError('`devices` is "all" or a list of names', found=repr(names))
    numbers = tuple(gpu_number(name, machine) for name in names)
    on_gpus = [number for number in numbers if number is not None]
    if not numbers or len(set(on_gpus)) < len(on_gpus):
        raise InputError("`devices` names each GPU once", found=", ".join(names) or "no device")
    return numbers


def device_name(number: int | None) -> str:
    """The name of a device: "cpu" or "cuda:1"."""
    return "cpu" if number is None else f"cuda:{number}"
