"""A run of tokens on a Ray cluster: actors make the parts, and this process keeps the journal."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import msgspec

from magvit_runtime.clips.trajectories import Trajectory
from magvit_runtime.errors import BackendError, InputError, MagvitError
from magvit_runtime.hardware.packages import missing_package
from magvit_runtime.hub.addresses import reachable
from magvit_runtime.results.folders import Folder
from magvit_runtime.results.journal import Journal, write_part
from magvit_runtime.results.run_records import JournalEntry
from magvit_runtime.runs.inputs import Inputs
from magvit_runtime.runs.parts import ClipOptions, RunReport, trajectory_part, trajectory_parts
from magvit_runtime.runs.running import Encoder
from magvit_runtime.runs.tokens import token_part
from magvit_runtime.serving.ray_metrics import ClipMetrics
from magvit_runtime.tokenizer import Tokenizer

# What a local cluster holds in shared memory: parts of trajectories are small.
STORE_BYTES = 512 << 20
# For a cluster that is started here. What isn't asked for is neither sent nor printed.
_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_USAGE_STATS_ENABLED": "0",
}

Row = dict[str, list[Any]]


@dataclass(frozen=True)
class Worker:
    """What each actor is and has.

    Attributes:
        bundle: The bundle's directory, on every machine of the cluster; those that haven't one in
            the hub's cache fetch it.
        opening: Options of `Tokenizer.open`.
        cpus: Of Ray's CPUs; may be a fraction.
        gpus: Of Ray's GPUs; may be a fraction.
    """

    bundle: Path
    opening: Mapping[str, Any]
    cpus: float = 1
    gpus: float = 0

    def open(self) -> Tokenizer:
        """The tokenizer of an actor, on as many threads as it has CPUs."""
        threads = self.opening["threads"] or max(1, int(self.cpus))
        return Tokenizer.open(reachable(self.bundle), **{**self.opening, "threads": threads})

    @property
    def resources(self) -> dict[str, float]:
        """As Ray takes them."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """The cluster that RAY_ADDRESS names, or one on this machine's cores while the block runs.

    Yields:
        The package `ray`, connected.

    Raises:
        MissingPackageError: Ray isn't installed.
        MagvitError: There is no such cluster, or none can be started.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "ray", "--ray") from error
    own: dict[str, Any] = {}
    if "RAY_ADDRESS" not in os.environ:
        own = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
    # Ray prints there what it says of workers that died; it isn't the command's result.
    with redirect_stdout(sys.stderr), _connected(ray, own):
        yield ray


@contextmanager
def _connected(ray: Any, own: dict[str, Any]) -> Iterator[None]:
    # Ray sets a handler of its own, which would end us without a word.
    stopping = signal.getsignal(signal.SIGTERM)
    try:
        with _silent():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # A node that is slow to start is a plain `Exception` of Ray's.
        raise MagvitError("no Ray cluster can be used", found=error) from error
    try:
        signal.signal(signal.SIGTERM, stopping)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = 1  # So that each part is a block, which any actor takes.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield
    finally:
        ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Drops what Ray's library writes to standard error: that it was told to be quiet."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def encoder_there(ray: Any, worker: Worker) -> Encoder:
    """What an actor of the cluster would make tokens with.

    Raises:
        MagvitError: As of `Tokenizer.open` there; or no machine of the cluster has such resources.
    """
    _check_resources(ray, worker)

    def look() -> Encoder | MagvitError:
        try:
            with worker.open() as tokenizer:
                return Encoder.of(tokenizer)
        except MagvitError as error:
            return error

    found = ray.get(ray.remote(**worker.resources)(look).remote())
    if isinstance(found, MagvitError):
        raise found
    encoder: Encoder = found
    return encoder


def make_parts_with_ray(
    ray: Any,
    inputs: Inputs,
    options: ClipOptions,
    folder: Folder,
    journal: Journal,
    encoder: Encoder,
    worker: Worker,
    workers: int | None,
    advance: Callable[[int], None],
) -> RunReport:
    """Makes the parts that aren't done, on actors.

    Ray reads files, and hands the trajectories of one part at a time to an actor, which draws and
    encodes them and writes the part. An actor that dies is replaced, and its part made again, with
    the same name and bytes.

    Args:
        ray: A connected `ray`.
        inputs: Files of trajectories.
        options: How clips are made.
        folder: Where parts are written; every machine of the cluster must reach it.
        journal: Of the run.
        encoder: What makes the tokens, on every machine.
        worker: What each actor is.
        workers: How many actors; None takes all that the cluster has room for.
        advance: Told how many rows were made, or were there.

    Returns:
        What was met in the files.

    Raises:
        InputError: The inputs are no trajectories, or can't be used.
        MagvitError: An actor failed.
    """
    if inputs.kind != "trajectories":
        raise InputError(
            f"--ray reads trajectories, and {inputs.folder.address()} holds another kind",
            found=inputs.kind,
            mend="leave it out, and share the work with --shard",
        )
    journal.begin()
    for entry in journal.done.values():
        advance(entry.part.rows)
    groups = [{"group": i, "names": list(names)} for i, names in enumerate(inputs.groups)]
    parts = (
        ray.data.from_items(groups, override_num_blocks=len(groups))
        .map_batches(
            partial(
                _read_group,
                inputs=inputs,
                options=options,
                done=frozenset(journal.done),
                model=encoder.model,
            ),
            batch_size=1,
            num_cpus=0,  # Reading is little work, and actors take all CPUs.
        )
        .map_batches(
            _PartMaker,
            fn_constructor_args=(worker, options, folder, encoder),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers or _room(ray, worker)),
            **worker.resources,
        )
    )
    report = RunReport()
    for row in parts.iter_rows():
        match pickle.loads(row["content"]):
            case JournalEntry() as entry:
                journal.add(entry)
                advance(entry.part.rows)
            case RunReport() as read:
                report.trajectories |= read.trajectories
                report.refused += read.refused
            case error:
                raise error
    in_order = {n: report.trajectories[n] for n in inputs.sizes if n in report.trajectories}
    return RunReport(in_order, refused=sorted(report.refused, key=lambda one: one.name))


def _read_group(
    batch: Mapping[str, Any], inputs: Inputs, options: ClipOptions, done: frozenset[str], model: str
) -> Iterator[Row]:
    """The trajectories of each part of a group of files that isn't done; at last what was met."""
    report = RunReport()
    (group,), (names,) = batch["group"], batch["names"]
    try:
        for name, chunk in trajectory_parts(inputs, int(group), tuple(names), options, report):
            if name not in done:
                yield _row(name, chunk)
        read = report.trajectories.values()
        refused = (
            n for one in read for (action, _), n in one.counts.items() if action == "refused"
        )
        ClipMetrics(model).refuse(sum(refused))
        yield _row("", report)
    except MagvitError as error:
        yield _row("", error)


class _PartMaker:
    """Makes and writes parts; an actor holds one.

    What goes wrong in a way that has words comes back as a row: Ray would wrap an error in its own.
    """

    def __init__(
        self, worker: Worker, options: ClipOptions, folder: Folder, encoder: Encoder
    ) -> None:
        self._worker = worker
        self._options = options
        self._folder = folder
        self._encoder = encoder
        self._metrics = ClipMetrics(encoder.model)

    def __call__(self, batch: Mapping[str, Any]) -> Row:
        """Makes a part, or hands on what is none."""
        (name,), (content,) = batch["part"], batch["content"]
        if not name:
            return _row("", pickle.loads(content))
        try:
            return _row("", self._make(str(name), pickle.loads(content)))
        except MagvitError as error:
            return _row("", error)

    def _make(self, name: str, trajectories: list[Trajectory]) -> JournalEntry:
        part = trajectory_part(name, trajectories, self._options)
        tokenizer = self._tokenizer  # Opened before the first part's time is taken.
        with self._metrics.batch(len(trajectories) * self._options.cameras.views):
            content, rows, info = token_part(part, tokenizer)
        return write_part(self._folder, name, content, rows, info, tuple(part.noted.problems))

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = self._worker.open()
        here = Encoder.of(tokenizer)
        if msgspec.structs.replace(here, words="") != msgspec.structs.replace(
            self._encoder, words=""
        ):
            raise BackendError(
                "the machines of the cluster would make tokens in different ways",
                found=here.words,
                expected=self._encoder.words,
                mend="pass --backend and --precision",
            )
        return tokenizer


def _row(part: str, content: object) -> Row:
    return {"part": [part], "content": [pickle.dumps(content)]}


def _room(ray: Any, worker: Worker) -> int:
    """How many actors the cluster has room for."""
    there = ray.cluster_resources()
    room = [
        int(there.get(kind, 0) / share)
        for kind, share in (("CPU", worker.cpus), ("GPU", worker.gpus))
        if share
    ]
    return max(1, min(room, default=1))


def _check_resources(ray: Any, worker: Worker) -> None:
    """Refuses what no machine has: Ray would wait for such a machine for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for kind, share in (("CPU", worker.cpus), ("GPU", worker.gpus)):
        most = max((node.get(kind, 0) for node in nodes), default=0)
        if share > most:
            raise BackendError(
                "no machine of the cluster has room for a worker",
                found=f"{most:g} {kind}s at most",
                expected=f"{share:g}",
                mend=f"lower --{kind.lower()}s-per-worker",
            )
