"""What this machine is and how it is just now, as far as it says."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from magvit_runtime.engines.gpus import list_gpus

PACKAGES = ("magvit-runtime", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch")


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine.

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


def describe_machine() -> Machine:
    """This machine, now."""
    return Machine(
        cpu=cpu_name(),
        cpus=usable_cpus(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        clocks_mhz=[float(clock) for clock in _cpu_facts("cpu MHz")],
        temperature_c=_temperature(),
        load=os.getloadavg()[0],
        gpus=[f"{gpu.name}, driver {gpu.driver}" for gpu in list_gpus()],
        instance_type=_instance_type(),
        system=f"{platform.system()} {platform.machine()}",
        versions={"python": platform.python_version()} | _package_versions(),
    )


def cpu_name() -> str:
    """Model name of the CPU, as the kernel has it."""
    return next(_cpu_facts("model name"), platform.processor() or platform.machine())


def usable_cpus() -> int:
    """CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _cpu_facts(name: str) -> Iterator[str]:
    """What the kernel says of each CPU under a name."""
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            yield value.strip()


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
