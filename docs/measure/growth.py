"""What a process holds, sampled while it works: does it grow?"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median

import psutil

# What counts as growth, from the second quarter of the samples to the last one. Memory comes and
# goes in pages of several allocators; nothing else may grow by one.
MEMORY_MIB = 4.0


@dataclass(frozen=True)
class Sample:
    """What a process holds at one time.

    Attributes:
        memory: Resident, in MiB, after what is free was given back.
        threads: Of the system.
        files: Open descriptors.
        processes: Children.
        temporary: Files and folders in the folder that is watched.
    """

    memory: float
    threads: float
    files: float
    processes: float
    temporary: float

    @classmethod
    def take(cls, folder: Path) -> Sample:
        """What this process holds now; nothing else may be at work in it.

        Args:
            folder: Where files are counted.
        """
        gc.collect()
        give_back_free_memory()
        process = psutil.Process()
        return cls(
            process.memory_info().rss / 2**20,
            process.num_threads(),
            process.num_fds(),
            len(process.children()),
            sum(1 for _ in folder.rglob("*")),
        )


@dataclass(frozen=True)
class Growth:
    """Medians of one kind of thing, in the second, third and last quarter of the samples."""

    name: str
    before: float
    between: float
    after: float

    @property
    def has_grown(self) -> bool:
        """Whether it is more than what is allowed."""
        return self.after - self.before > (MEMORY_MIB if self.name == "memory" else 0)


def growths(samples: list[Sample]) -> list[Growth]:
    """How each thing changed.

    Args:
        samples: At least four, at equal distances; the first quarter warms up.
    """
    quarter = len(samples) // 4
    assert quarter, "four samples at least"
    columns = list(zip(*map(astuple, samples), strict=True))
    return [
        Growth(
            field.name,
            median(column[quarter : 2 * quarter]),
            median(column[2 * quarter : -quarter]),
            median(column[-quarter:]),
        )
        for field, column in zip(fields(Sample), columns, strict=True)
    ]


def as_table(found: list[Growth]) -> str:
    """A table in Markdown."""
    rows = ["| | second quarter | third | last | |", "|---|---|---|---|---|"]
    for one in found:
        unit = " MiB" if one.name == "memory" else ""
        verdict = "has grown" if one.has_grown else "no growth"
        numbers = " | ".join(f"{n:.4g}{unit}" for n in (one.before, one.between, one.after))
        rows.append(f"| {one.name} | {numbers} | {verdict} |")
    return "\n".join(rows)


def give_back_free_memory() -> None:
    """Returns to the system what the allocators keep for later, where they can."""
    try:
        import pyarrow as pa

        pa.default_memory_pool().release_unused()
    except ModuleNotFoundError:
        pass
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if os.name == "posix" and trim is not None:
        trim(0)
