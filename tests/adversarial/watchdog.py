"""Runs cases in child processes, so that a crash or a hang is also reported, with its case."""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SECONDS_A_CASE = 5
SECONDS_TO_START = 120
CHILDREN = 2

# linux/inotify.h
_IN_ANY_USE = 0x1 | 0x2 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200
_IN_NONBLOCK = 0o4000


@dataclass(frozen=True)
class Case:
    """One hostile file or folder.

    Attributes:
        name: Says how to make it again: family and seed.
        make: Makes it in an empty folder, beside a folder `outside` that nobody may touch.
            Returns the path to open.
    """

    name: str
    make: Callable[[Path, np.random.Generator], Path]


@dataclass(frozen=True)
class Tally:
    """The outcome of many cases: how many actions worked or were refused, and what was wrong."""

    worked: int
    refused: int
    faults: tuple[str, ...]


class OutsideWatch:
    """Sees every use of a folder's files through inotify, also by native code."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._file = libc.inotify_init1(_IN_NONBLOCK)
        watch = libc.inotify_add_watch(self._file, os.fsencode(folder), _IN_ANY_USE)
        assert self._file >= 0 <= watch, os.strerror(ctypes.get_errno())

    def was_used(self) -> bool:
        try:
            return bool(os.read(self._file, 65536))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._file)


class Child:
    """A process of child.py, started again after it was killed."""

    def __init__(self, kind: str, log: Path, warm_up: Path) -> None:
        self._command = [sys.executable, str(Path(__file__).with_name("child.py")), kind]
        self._log = log
        self._warm_up = warm_up
        self._start()

    def _start(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0
            )
        answer = self._ask(self._warm_up, SECONDS_TO_START)
        assert answer is not None, self._log.read_text(errors="replace")

    def _ask(self, path: Path, seconds: float) -> dict[str, object] | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(str(path)).encode() + b"\n")
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return None
        line = self._process.stdout.readline()
        while line and not line.endswith(b"\n"):
            line += self._process.stdout.readline()
        answer: dict[str, object] | None = json.loads(line) if line else None
        return answer

    def ask(self, path: Path) -> dict[str, object] | str:
        """The child's answer, or what happened to it."""
        answer = self._ask(path, SECONDS_A_CASE)
        if answer is not None:
            return answer
        try:
            code = self._process.wait(0.5)
            what = f"died: {signal.Signals(-code).name if code < 0 else code}"
        except subprocess.TimeoutExpired:
            what = f"hung for more than {SECONDS_A_CASE} s"
        self.close()
        log = self._log.read_text(errors="replace")[-500:]
        self._start()
        return f"{what} {log}"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def run_cases(kind: str, cases: Iterable[Case], folder: Path, sound: Path) -> Tally:
    """Runs cases in two children.

    Args:
        kind: What the child does with each; see child.py.
        cases: The cases.
        folder: An empty folder to work in.
        sound: A sound file or bundle, on which a child warms up: what it imports lazily is read
            then, and nothing of that is counted as a read outside a bundle.
    """
    cases = list(cases)
    shares = [cases[i::CHILDREN] for i in range(CHILDREN)]
    with ThreadPoolExecutor(CHILDREN) as pool:
        runs = [
            pool.submit(_run_share, kind, share, folder / str(i), sound)
            for i, share in enumerate(shares)
        ]
        tallies = [run.result() for run in runs]
    return Tally(
        sum(tally.worked for tally in tallies),
        sum(tally.refused for tally in tallies),
        tuple(fault for tally in tallies for fault in tally.faults),
    )


def _run_share(kind: str, cases: list[Case], folder: Path, sound: Path) -> Tally:
    folder.mkdir()
    child = Child(kind, folder / "stderr", sound)
    worked = refused = 0
    faults: list[str] = []
    try:
        for case in cases:
            answer = _run_one(child, case, folder / "case")
            for what in answer:
                if what == "worked":
                    worked += 1
                elif what.startswith("refused"):
                    refused += 1
                else:
                    faults.append(f"{case.name}: {what}")
    finally:
        child.close()
    return Tally(worked, refused, tuple(faults))


def _run_one(child: Child, case: Case, root: Path) -> Iterator[str]:
    inside, outside = root / "inside", root / "outside"
    inside.mkdir(parents=True)
    outside.mkdir()
    path = case.make(inside, np.random.default_rng(list(case.name.encode())))
    before = _snapshot(root)
    watch = OutsideWatch(outside)
    try:
        answer = child.ask(path)
        used = watch.was_used()
    finally:
        watch.close()
    if isinstance(answer, str):
        yield answer
    else:
        for action, text in answer["outcomes"].items():  # type: ignore[attr-defined]
            if text == "worked":
                yield text
            elif text.startswith("unexpected "):
                yield f"{action}: {text}"
            else:
                yield f"refused {text}"
        if answer["outside"]:
            yield f"opened outside the bundle: {answer['outside']}"
    if used:
        yield "used a file outside the bundle"
    if _snapshot(root) != before:
        yield "something was written"
    shutil.rmtree(root)


def _snapshot(root: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 - names may be no valid text
            status = os.lstat(path)
            found[path] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found
