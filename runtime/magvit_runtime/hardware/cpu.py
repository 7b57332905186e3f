"""The CPU of this machine, as the kernel reports it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path


def cpu_name() -> str:
    """Model name of the CPU."""
    return next(cpu_facts("model name"), platform.processor() or platform.machine())


def usable_cpus() -> int:
    """CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cpu_facts(name: str) -> Iterator[str]:
    """The kernel's value for each CPU under a name such as "cpu MHz"; empty if it has none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # Not every system has this file.
        return
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            yield value.strip()
