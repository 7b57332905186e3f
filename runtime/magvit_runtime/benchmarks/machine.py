"""What this machine is and how it is just now, as far as it says."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from magvit_runtime.hardware.cpu import cpu_facts, cpu_name, usable_cpus
from magvit_runtime.hardware.gpus import list_gpus

PACKAGES = ("magvit-runtime", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch")


class MachineRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine at the time of a measurement.

    Attributes:
        cpu: Model name of its CPU.
        cpus: CPUs that this process may use.
        memory_gib: Memory.
        clocks_mhz: Clock of each CPU; empty where it isn't told.
        temperature_c: The hottest of its sensors; None where there is none to read.
        load: Processes that wanted to run, averaged over the last minute.
        gpus: Name and driver of each GPU.
        instance_type: EC2 instance type, as "c7i.xlarge"; "" elsewhere.
        system: Operating system.
        versions: Of Python and of the packages that took part.
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
        versions={"python": platform.python_version()} | _package_versions(),
    )


def _temperature() -> float | None:
    zones = Path("/sys/class/thermal").glob("thermal_zone*/temp")
    found = [int(text) / 1000 for text in map(_read, zones) if text.strip().isdigit()]
    return max(found, default=None)


def _instance_type() -> str:
    """Nitro instances give their type as the product's name."""
    board = Path("/sys/devices/virtual/dmi/id")
    return _read(board / "product_name").strip() if "EC2" in _read(board / "sys_vendor") else ""


def _package_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # Not every system tells.
        return ""
