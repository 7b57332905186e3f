"""What a soak does over and over: calls with known results, and faults with known errors."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from random import Random
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from magvit_runtime import (
    BackendError,
    Classifier,
    InputError,
    MagvitError,
    Tokenizer,
    open_bundle,
)
from magvit_runtime.backends.backend import Session
from magvit_runtime.backends.device_pool import DevicePool, PooledDevice
from magvit_runtime.backends.opening import open_role
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import ReadReport, StyleOptions
from magvit_runtime.results.folders import open_folder
from magvit_runtime.results.journal import Journal
from magvit_runtime.results.run_records import ALL
from magvit_runtime.runs.inputs import find_inputs
from magvit_runtime.runs.parts import ClipOptions, RunReport, run_parts
from magvit_runtime.runs.running import Encoder, finish, make_parts, run_record
from magvit_runtime.runs.tokens import token_part
from magvit_runtime.types import Array

ErrorT = TypeVar("ErrorT", bound=Exception)
BACKENDS = ("native", "onnxruntime")
# As of `soak_bundle`.
CLIPS, FRAMES, SIDE = 12, 3, 8
STYLE = StyleOptions(frames=2, height=10, width=10, margin=4)
# Some parts of the run find room on the full disk, and some don't.
ROOM = 40 << 10
# What becomes of a child that dies while it holds a door.
DYING = """
import os, pickle, sys
door = pickle.load(sys.stdin.buffer)
clips = pickle.load(sys.stdin.buffer)
door(clips)
os.kill(os.getpid(), 9)
"""


class FailingSession:
    """A session whose every second run fails.

    Args:
        session: The session that does the work.
    """

    stage_times = None

    def __init__(self, session: Session) -> None:
        self.capabilities = session.capabilities
        self.close = session.close
        self._session = session
        self._number = count()

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        if next(self._number) % 2:
            raise BackendError("the device fell off the bus")
        return self._session.run(inputs, outputs)


class Work:
    """Doors, what they must give, and the ways to use and to break them.

    Any number of threads may do any of its operations at once. Each raises AssertionError where
    something else comes of it than must.

    Args:
        bundle: A bundle with a classifier, of a model that halves height and width.
        folder: Takes inputs and outputs.
        small_disk: An empty folder on a disk of about a megabyte; None leaves out full disks.
    """

    def __init__(self, bundle: Path, folder: Path, small_disk: Path | None) -> None:
        self._bundle = bundle
        self._folder = folder
        self._small_disk = small_disk
        self._disk_lock = threading.Lock()
        self._numbers = count()
        random = np.random.default_rng(1)
        shape = (CLIPS, FRAMES, SIDE, SIDE, 3)
        self._clips = random.integers(0, 256, shape, dtype=np.uint8)
        self._source = self._write_source(folder / "in")
        self._doors = ExitStack()
        self._tokenizers = [self._open(Tokenizer, backend=name) for name in BACKENDS]
        self._classifiers = [self._open(Classifier, backend=name) for name in BACKENDS]
        self._pooled = self._open(Tokenizer, devices=["cpu", "cpu"])
        self._failing = self._open_failing()
        # Doors that are closed by now say what is right, and the two backends agree on it.
        with Tokenizer.open(bundle, backend="onnxruntime", threads=1) as tokenizer:
            self._ids = tokenizer(self._clips)
            drawn = [tokenizer(batch) for batch in self._drawn()]
        self._drawn_ids = np.concatenate(drawn)
        with Classifier.open(bundle, backend="onnxruntime", threads=1) as classifier:
            self._probabilities = classifier(self._ids).probabilities
        self._parts = self._run(folder / "expected")

    def close(self) -> None:
        """Closes all doors."""
        self._doors.close()

    def operations(self) -> dict[str, tuple[int, Callable[[Random], None]]]:
        """What can be done, by name, with how often among each other."""
        found: dict[str, tuple[int, Callable[[Random], None]]] = {
            "tokenize": (600, self.tokenize),
            "classify": (300, self.classify),
            "draw and stream": (20, self.stream),
            "write a folder": (10, self.write_folder),
            "bad input": (100, self.bad_input),
            "a closed session": (10, self.closed_session),
            "a source that fails": (10, self.failing_source),
            "a device that fails": (10, self.failing_device),
            "a process that dies": (1, self.dying_process),
        }
        if self._small_disk is not None:
            found["a full disk"] = (5, self.full_disk)
        return found

    def tokenize(self, random: Random) -> None:
        """One to three clips, on either backend."""
        first, size = random.randrange(CLIPS), random.randint(1, 3)
        ids = random.choice(self._tokenizers)(self._clips[first : first + size])
        np.testing.assert_array_equal(ids, self._ids[first : first + size])

    def classify(self, random: Random) -> None:
        """One to three clips' ids, on either backend."""
        first, size = random.randrange(CLIPS), random.randint(1, 3)
        found = random.choice(self._classifiers)(self._ids[first : first + size])
        expected = self._probabilities[first : first + size]
        np.testing.assert_allclose(found.probabilities, expected, rtol=1e-4, atol=1e-6)

    def stream(self, _: Random) -> None:
        """Trajectories, drawn and shared among two devices."""
        ids = list(self._pooled.stream(self._drawn()))
        np.testing.assert_array_equal(np.concatenate(ids), self._drawn_ids)

    def write_folder(self, _: Random) -> None:
        """A run of several parts; its bytes are known."""
        folder = self._new_folder()
        assert self._run(folder) == self._parts
        shutil.rmtree(folder)

    def bad_input(self, random: Random) -> None:
        """Each is refused, and the door goes on."""
        clips, ids = self._clips[:1], self._ids[:1]
        door, given = random.choice(
            [
                (random.choice(self._tokenizers), clips.astype(np.float32)),
                (random.choice(self._tokenizers), clips[0]),
                (random.choice(self._tokenizers), clips[..., :2]),
                (random.choice(self._tokenizers), clips.tolist()),
                (random.choice(self._classifiers), ids - 2**18),
                (random.choice(self._classifiers), ids[:, :1]),
                (self._pooled, clips[0]),
            ]
        )
        expect(InputError, lambda: door(given))

    def closed_session(self, random: Random) -> None:
        """A door of its own, which works until it is closed."""
        kind, given, backend = random.choice(
            [(Tokenizer, self._clips, "auto"), (Classifier, self._ids, "native")]
        )
        with kind.open(self._bundle, backend=backend, threads=1) as door:
            door(given[:1])
        error = expect(BackendError, lambda: door(given[:1]))
        assert "this session is closed" in str(error)

    def failing_source(self, random: Random) -> None:
        """A stream ends in what its source raised, after the ids of what came before."""
        good = random.randrange(4)

        def batches() -> Iterator[NDArray[np.uint8]]:
            for number in range(good):
                yield self._clips[number : number + 1]
            raise ZeroDivisionError

        made: list[NDArray[np.int32]] = []
        expect(ZeroDivisionError, lambda: made.extend(self._pooled.stream(batches())))
        np.testing.assert_array_equal(np.concatenate([self._ids[:0], *made]), self._ids[:good])

    def failing_device(self, _: Random) -> None:
        """One device of two fails in its thread: the call does, and names it."""
        error = expect(BackendError, lambda: [self._failing(self._clips) for _ in range(2)])
        assert "the device fell off the bus" in str(error)

    def dying_process(self, random: Random) -> None:
        """A door that is sent to another process, which is killed after a call."""
        given = pickle.dumps(random.choice(self._tokenizers)) + pickle.dumps(self._clips[:1])
        child = subprocess.run([sys.executable, "-c", DYING], input=given, check=False)
        assert child.returncode == -9

    def full_disk(self, _: Random) -> None:
        """A run finds no room, leaves whole parts alone, and goes on once there is room."""
        assert self._small_disk is not None
        with self._disk_lock:
            folder, ballast = self._small_disk / "tokens", self._small_disk / "ballast"
            disk = os.statvfs(self._small_disk)
            ballast.write_bytes(bytes(disk.f_bavail * disk.f_bsize - ROOM))
            error = expect(MagvitError, lambda: self._run(folder))
            assert str(error).startswith(f"can't write {folder}")
            there = content(folder)
            parts = {name for name in there if name.endswith(".parquet")}
            assert 0 < len(parts) < len(self._parts) - 1
            assert all(there[name] == self._parts[name] for name in parts)
            assert not list(folder.rglob(".*"))
            ballast.unlink()
            assert self._run(folder, resume=True) == self._parts
            shutil.rmtree(folder)

    def _open(self, kind: type[Tokenizer | Classifier], **options: object) -> Tokenizer:
        return self._doors.enter_context(kind.open(self._bundle, threads=1, **options))

    def _open_failing(self) -> Tokenizer:
        bundle = open_bundle(self._bundle)
        opened = [open_role(bundle, "encode", backend="native", threads=1) for _ in range(2)]
        (graph, good), (_, other) = opened
        devices = [PooledDevice("good", good), PooledDevice("bad", FailingSession(other))]
        return self._doors.enter_context(
            Tokenizer(bundle, graph, DevicePool(graph, devices), batch_size=1)
        )

    def _drawn(self) -> Iterator[NDArray[np.uint8]]:
        for path in sorted(self._source.iterdir()):
            for batch in read_clips(path, STYLE, ReadReport(), 4):
                yield batch.frames

    def _new_folder(self) -> Path:
        return self._folder / f"run-{next(self._numbers)}"

    def _run(self, folder: Path, *, resume: bool = False) -> dict[str, bytes]:
        """What `magvit tokenize -o FOLDER` writes, by file."""
        tokenizer, report = self._tokenizers[0], RunReport()
        inputs = find_inputs(self._source)
        options = ClipOptions(STYLE, part_size=4)
        place = open_folder(folder)
        record = run_record("tokens", Encoder.of(tokenizer), inputs, ALL, options)
        journal = Journal.open(place, record, resume=resume)
        parts = run_parts(inputs, ALL, options, report)
        make_parts(place, journal, parts, lambda p: token_part(p, tokenizer), lambda _: None)
        finish(journal, report, inputs, ALL)
        return content(folder)

    @staticmethod
    def _write_source(folder: Path) -> Path:
        folder.mkdir()
        random = np.random.default_rng(2)
        for file in range(2):
            rows = ["id,x,y"]
            for i in range(CLIPS):
                rows += [f"{i},{x:.3f},{y:.3f}" for x, y in random.normal(size=(3, 2)).cumsum(0)]
            (folder / f"{file}.csv").write_text("\n".join(rows) + "\n")
        return folder


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def expect(kind: type[ErrorT], call: Callable[[], object]) -> ErrorT:
    """The error that a call must end in."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")
