"""This machine's hardware and its present state, as far as the system reports them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec

from magvit_runtime.hardware.cpu import cpu_facts, cpu_name, usable_cpus
from magvit_runtime.hardware.gpu_states import GpuState, gpu_states
from magvit_runtime.hardware.gpus import list_gpus
from magvit_runtime.hardware.packages import installed_versions

PACKAGES = ("magvit-runtime", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch")


class MachineRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine at the time of a measurement.

    Attributes:
        cpu: Model name of its CPU.
        cpus: CPUs that this process may use.
        memory_gib: Memory.
        clocks_mhz: Clock of each CPU; empty if the system doesn't report it.
        temperature_c: The hottest of its sensors; None if there is none to read.
        load: Processes that wanted to run, averaged over the last minute.
        gpus: Name and driver of each GPU.
        gpu_states: Their clocks, power and throttling; none without the driver's tool.
        instance_type: EC2 instance type, as "c7i.xlarge"; "" elsewhere.
        system: Operating system.
        versions: Versions of Python and of the packages that took part.
    """

    cpu: str
    cpus: int
    memory_gib: float
    clocks_mhz: list[float]
    temperature_c: float | None
    load: float
    gpus: list[str]
    instance_type: str
    system: str
    versions: dict[str, str]
    gpu_states: list[GpuState] = []


def describe_machine() -> MachineRecord:
    """This machine, now."""
    return MachineRecord(
        cpu=cpu_name(),
        cpus=usable_cpus(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        clocks_mhz=[float(clock) for clock in cpu_facts("cpu MHz")],
        temperature_c=_temperature(),
        load=os.getloadavg()[0],
        gpus=[f"{gpu.name}, driver {gpu.driver}" for gpu in list_gpus()],
        instance_type=_instance_type(),
        system=f"{platform.system()} {platform.machine()}",
        versions={"python": platform.python_version()}
        | {name: found for name, found in installed_versions(PACKAGES).items() if found},
        gpu_states=list(gpu_states()),
    )


def _temperature() -> float | None:
    zones = Path("/sys/class/thermal").glob("thermal_zone*/temp")
    found = [int(text) / 1000 for text in map(_read, zones) if text.strip().isdigit()]
    return max(found, default=None)


def _instance_type() -> str:
    """Nitro instances give their type as the product's name."""
    board = Path("/sys/devices/virtual/dmi/id")
    return _read(board / "product_name").strip() if "EC2" in _read(board / "sys_vendor") else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # Not every system has this file.
        return ""
