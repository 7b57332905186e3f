"""The NVIDIA GPUs of this machine, as the driver's own tool lists them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

_FIELDS = ("name", "compute_cap", "driver_version", "memory.total", "memory.free")


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: Product name.
        sm: Compute capability, as "8.9".
        driver: Version of the driver.
        memory_mib: Memory in MiB.
        free_mib: Memory that nobody uses, in MiB.
    """

    name: str
    sm: str
    driver: str
    memory_mib: int
    free_mib: int


def list_gpus() -> tuple[Gpu, ...]:
    """GPUs in the driver's order; empty where there is no driver or no GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    command = [tool, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    listing = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if listing.returncode != 0:
        return ()
    return tuple(_parse(line) for line in listing.stdout.splitlines() if line.count(",") == 4)


def _parse(line: str) -> Gpu:
    name, sm, driver, memory, free = (field.strip() for field in line.split(","))
    return Gpu(name, sm, driver, int(memory), int(free))
