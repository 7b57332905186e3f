"""A progress bar on a terminal, and nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

WORTH_SAYING = 10.0  # Seconds.


@contextmanager
def progress_bar(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Shows progress on stderr where that is a terminal.

    Args:
        what: What is being done.
        total: Steps in all, where that is known.

    Yields:
        A function that takes the number of steps just done.
    """
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)


@contextmanager
def estimated_progress(
    what: str,
) -> Iterator[tuple[Callable[[float], None], Callable[[float], None]]]:
    """Says on stderr how long a long job may take, and shows a bar where that is a terminal.

    Args:
        what: What is being done.

    Yields:
        A function that takes the seconds that all of it may take, and one that takes how many of
        them the part just done was worth.
    """
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    # A part can take a minute; the time left is of all parts so far.
    show = Progress(
        *columns, console=console, disable=not console.is_terminal, speed_estimate_period=3600
    )
    with show as bar:
        task = bar.add_task(what, total=None)

        def start(seconds: float) -> None:
            bar.update(task, total=seconds)
            if seconds >= WORTH_SAYING:
                print(f"{what}: about {duration(seconds)} here", file=sys.stderr)

        yield start, lambda seconds: bar.advance(task, seconds)


def duration(seconds: float) -> str:
    """A time in words: "40 s", "7 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def phase_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Shows the phases of a long job, each with its own bar, on stderr where that is a terminal.

    Yields:
        A function that takes a phase's name, its step, and its number of steps.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:

        def show(phase: str, step: int, steps: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase)
            bar.update(tasks[phase], completed=step, total=steps)

        yield show
