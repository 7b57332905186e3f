"""The NVIDIA GPUs that CUDA shows this process, in CUDA's own order.

The driver's tool lists all GPUs by their place on the bus. CUDA puts the fastest first, unless
CUDA_DEVICE_ORDER is PCI_BUS_ID, and shows only those that CUDA_VISIBLE_DEVICES names. So the first
GPU of the tool can be another than CUDA's first. A GPU's UUID is the same for both.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

_FIELDS = ("name", "compute_cap", "driver_version", "memory.total", "memory.free", "uuid")

# What `nvidia-smi -L` lists: GPUs, and below each its parts.
_LISTED_GPU = re.compile(r"GPU \d+: .* \(UUID: (GPU-[^)]+)\)")
_LISTED_PART = re.compile(r"\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)")

# Runs in a separate process, because a process that has used CUDA can't be forked any more.
_CUDA_ORDER = """
from cuda.bindings import runtime

_, count = runtime.cudaGetDeviceCount()
for ordinal in range(count):
    print(bytes(runtime.cudaGetDeviceProperties(ordinal)[1].uuid.bytes).hex())
"""


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: Product name.
        sm: Compute capability, as "8.9".
        driver: Version of the driver.
        memory_mib: Memory in MiB; 0 if the driver doesn't say.
        free_mib: Free memory in MiB; 0 if the driver doesn't say.
        uuid: Its UUID, as "GPU-5a3c…".
    """

    name: str
    sm: str
    driver: str
    memory_mib: int
    free_mib: int
    uuid: str


def list_gpus() -> tuple[Gpu, ...]:
    """GPUs that CUDA shows this process, in CUDA's order; empty if there is none.

    If their models differ and nothing else tells CUDA's order, a new process asks CUDA itself (half
    a second). Without the package cuda-bindings, the driver's order is taken.
    """
    gpus = _listed_by_driver()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        if any(name.startswith("MIG-") for name in names):
            # CUDA shows the first alone. A driver that doesn't list it: a part of one of these.
            return _parts(gpus, names[0]) or gpus
        if all(name.startswith("GPU-") for name in names):
            return _chosen(gpus, names)
        return _chosen(_in_cuda_order(gpus), names)
    return _in_cuda_order(gpus)


def gpu_slug(name: str) -> str:
    """A GPU's product name as part of a file's name: "NVIDIA L4" is "nvidia-l4"."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def _listed_by_driver() -> tuple[Gpu, ...]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    command = [tool, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    listing = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if listing.returncode != 0:
        return ()
    commas = len(_FIELDS) - 1
    return tuple(_parse(line) for line in listing.stdout.splitlines() if line.count(",") == commas)


def _parts(gpus: tuple[Gpu, ...], name: str) -> tuple[Gpu, ...]:
    """The part of a GPU (MIG) whose UUID begins with a name, as a GPU; empty if none is listed.

    CUDA adds the part's profile to the name of its GPU: an engine tuned for one isn't for another.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    listing = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30, check=False)
    whole: Gpu | None = None
    found: list[Gpu] = []
    for line in listing.stdout.splitlines():
        if match := _LISTED_GPU.match(line):
            whole = next((gpu for gpu in gpus if gpu.uuid == match[1]), None)
        elif (match := _LISTED_PART.match(line)) and whole and match[2].startswith(name):
            part = replace(whole, name=f"{whole.name} MIG {match[1]}", uuid=match[2])
            found.append(replace(part, memory_mib=0, free_mib=0))
    return tuple(found) if len(found) == 1 else ()


def _parse(line: str) -> Gpu:
    name, sm, driver, memory, free, uuid = (field.strip() for field in line.split(","))
    return Gpu(name, sm, driver, _mebibytes(memory), _mebibytes(free), uuid)


def _mebibytes(text: str) -> int:
    """0 if the driver doesn't know: GPUs that share the CPU's memory show "[N/A]"."""
    return int(text) if text.isdecimal() else 0


def _in_cuda_order(gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    # CUDA keeps GPUs of one model in the order of the bus, as the driver's tool does.
    if len({gpu.name for gpu in gpus}) < 2 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return gpus
    environment = {
        name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"
    }
    command = [sys.executable, "-c", _CUDA_ORDER]
    asked = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    by_uuid = {gpu.uuid.removeprefix("GPU-").replace("-", ""): gpu for gpu in gpus}
    order = asked.stdout.split()
    if set(order) != by_uuid.keys():
        return gpus
    return tuple(by_uuid[uuid] for uuid in order)


def _chosen(gpus: Sequence[Gpu], names: Sequence[str]) -> tuple[Gpu, ...]:
    """The GPUs of CUDA_VISIBLE_DEVICES: indices, or the beginning of a UUID; CUDA's own rules."""
    chosen: list[Gpu] = []
    for name in names:
        if name.isdecimal():
            found = [gpus[int(name)]] if int(name) < len(gpus) else []
        else:
            found = [gpu for gpu in gpus if name and gpu.uuid.startswith(name)]
        if len(found) != 1 or found[0] in chosen:
            break  # A wrong entry hides all entries after it.
        chosen += found
    return tuple(chosen)
