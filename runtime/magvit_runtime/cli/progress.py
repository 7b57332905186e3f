"""A progress bar on a terminal; nothing in a pipe, or where MAGVIT_LOG asks for lines of JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from magvit_runtime.cli.messages import logs_are_json, say

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
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _progress(columns) as bar:
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
    columns = (TextColumn(what), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    # A part can take a minute; the time left is of all parts so far.
    with _progress(columns, speed_estimate_period=3600) as bar:
        task = bar.add_task(what, total=None)

        def start(seconds: float) -> None:
            bar.update(task, total=seconds)
            if seconds >= WORTH_SAYING:
                say(f"{what}: about {duration(seconds)} here")

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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    tasks: dict[str, TaskID] = {}
    with _progress(columns) as bar:

        def show(phase: str, step: int, steps: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase)
            bar.update(tasks[phase], completed=step, total=steps)

        yield show


def _progress(columns: Iterable[ProgressColumn], speed_estimate_period: float = 30) -> Progress:
    """Bars on stderr, where that is a terminal and has room for more than lines of JSON."""
    console = Console(stderr=True)
    return Progress(
        *columns,
        console=console,
        disable=not console.is_terminal or logs_are_json(),
        speed_estimate_period=speed_estimate_period,
    )
