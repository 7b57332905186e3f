"""What a run keeps of itself in its folder: what it reads, what runs, which parts it wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from magvit_runtime.clips.trajectories import RowProblem
from magvit_runtime.errors import InputError
from magvit_runtime.results.folders import Folder

RunKind = Literal["tokens", "predictions"]
Record = TypeVar("Record")

_SHARE = re.compile(r"(\d+)/(\d+)")
_MANIFEST = re.compile(r"manifest(-\d+-of-\d+)?\.json")


class InputRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file that a run reads.

    Attributes:
        name: Its place in the source.
        size: Bytes.
        sha256: Digest; None of a file that another job of the run reads.
    """

    name: str
    size: int
    sha256: str | None = None


class RunRecord(msgspec.Struct, frozen=True):
    """What decides a run's output.

    Attributes:
        kind: What the run makes.
        model: Name of the model.
        graphs: Digest of each graph that runs, with its weights.
        backend: What runs them.
        precision: What the encoder computes in.
        options: How clips are made and put together, by the option's name.
        inputs: What is read.
        shard: This job's share of the work, as "0/4"; "0/1" is all.
        schema_version: Of these records.
    """

    kind: RunKind
    model: str
    graphs: dict[str, str]
    backend: str
    precision: str
    options: dict[str, Any]
    inputs: tuple[InputRecord, ...]
    shard: str = "0/1"
    schema_version: int = 1


class PartRecord(msgspec.Struct, frozen=True):
    """A Parquet file of a run.

    Attributes:
        name: Its name in the folder.
        rows: Clips, or trajectories.
        size: Bytes.
        sha256: Digest of its bytes.
    """

    name: str
    rows: int
    size: int
    sha256: str


class JournalEntry(msgspec.Struct, frozen=True):
    """A part that was written.

    Attributes:
        part: The part.
        info: What is in it: the metadata of its file.
        noted: What drawing its clips met.
    """

    part: PartRecord
    info: dict[str, Any]
    noted: tuple[RowProblem, ...] = ()


class Refused(msgspec.Struct, frozen=True):
    """A file of a folder that couldn't be read, or not to its end.

    Attributes:
        name: Its place in the source.
        why: The error.
    """

    name: str
    why: str


class Manifest(msgspec.Struct, frozen=True):
    """What a finished run, or a finished job of it, wrote.

    Attributes:
        run: What decided it.
        info: What the parts hold; None where there is no part.
        parts: The parts, in the order of their rows.
        rows: Rows in all.
        refused: Files that couldn't be read.
    """

    run: RunRecord
    info: dict[str, Any] | None
    parts: tuple[PartRecord, ...]
    rows: int
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True)
class Share:
    """One job's share of a run's work.

    Attributes:
        index: Which, from 0.
        jobs: How many there are.
    """

    index: int = 0
    jobs: int = 1

    @classmethod
    def parse(cls, text: str) -> Share:
        """Reads "I/N".

        Raises:
            InputError: The text is no such share.
        """
        found = _SHARE.fullmatch(text)
        if not found or not int(found[1]) < int(found[2]):
            expected = "I/N with I from 0 to N - 1, as 0/4"
            raise InputError("this is no share of the work", found=text, expected=expected)
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.jobs}"

    @property
    def ending(self) -> str:
        """What the names of its records end in: nothing where it is all of the work."""
        return "" if self.jobs == 1 else f"-{self.index}-of-{self.jobs}"


ALL = Share()


def json_values(value: object) -> dict[str, Any]:
    """A record's values as they are once they were written and read: lists for tuples."""
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    return values


def read_record(folder: Folder, name: str, kind: type[Record]) -> Record:
    """Reads a record of a run.

    Raises:
        InputError: It is damaged, or of another version of this package.
    """
    try:
        return msgspec.json.decode(folder.read(name), type=kind)
    except msgspec.MsgspecError as error:
        raise InputError(f"{folder.address(name)} is damaged", found=str(error)) from error


def read_manifests(folder: Folder, kind: RunKind, command: str) -> list[Manifest]:
    """The manifests of a finished run, by share, after checking that they are of one run.

    Args:
        folder: What the run wrote.
        kind: What it should have made.
        command: What makes that, for messages.

    Raises:
        InputError: There is none, one is damaged or missing, or they aren't of one run; or files
            lie in the folder that the run didn't write, or lack.
    """
    sizes = folder.sizes()
    names = [name for name in sizes if _MANIFEST.fullmatch(name)]
    if not names:
        began = any(name.startswith("run") for name in sizes)
        raise InputError(
            f"{folder.address()} holds no finished run",
            found="a run that stopped on its way" if began else "no manifest.json",
            mend="give its command again with --resume" if began else f"make one with `{command}`",
        )
    found = [read_record(folder, name, Manifest) for name in names]
    shares = {Share.parse(one.run.shard).index: one for one in found}
    jobs = Share.parse(found[0].run.shard).jobs
    missing = [f"{index}/{jobs}" for index in range(jobs) if index not in shares]
    if missing:
        raise InputError(
            f"{folder.address()} holds no finished run",
            found=f"{len(found)} of its {jobs} jobs",
            mend=f"give its command with --shard {missing[0]} --resume",
        )
    manifests = [shares[index] for index in sorted(shares)]
    _check_one_run(folder, manifests, kind)
    _check_parts(folder, manifests, sizes)
    return manifests


def _check_one_run(folder: Folder, manifests: list[Manifest], kind: RunKind) -> None:
    first = manifests[0].run
    if first.kind != kind:
        raise InputError(f"{folder.address()} is of another kind", found=first.kind, expected=kind)
    infos = [one.info for one in manifests if one.info is not None]
    for other in (one.run for one in manifests):
        differing = difference(_shared(first), _shared(other))
        if differing or len(manifests) != Share.parse(other.shard).jobs:
            raise InputError(
                f"the jobs of {folder.address()} weren't of one run",
                found=f"{other.shard} has {differing or 'another number of jobs'}",
                mend="remove the folder, and run all of them again",
            )
    if any(info != infos[0] for info in infos):
        raise InputError(f"the jobs of {folder.address()} made different things of their clips")


def _shared(run: RunRecord) -> RunRecord:
    """What the jobs of one run share."""
    inputs = tuple(InputRecord(one.name, one.size) for one in run.inputs)
    return msgspec.structs.replace(run, inputs=inputs, shard="0/1", backend="")


def _check_parts(folder: Folder, manifests: list[Manifest], sizes: Mapping[str, int]) -> None:
    named = {part.name: part.size for one in manifests for part in one.parts}
    there = {name: size for name, size in sizes.items() if name.endswith(".parquet")}
    if named != there:
        name = next(iter(sorted(named.items() ^ there.items())))[0]
        raise InputError(
            f"{folder.address()} isn't what its manifest says",
            found=f"{name} with {there[name]} bytes" if name in there else f"no {name}",
            expected=f"{named[name]} bytes" if name in named else "no such file",
            mend="give the run's command again with --resume"
            if name in named
            else "put this file elsewhere",
        )


def difference(old: RunRecord, new: RunRecord) -> str | None:
    """Says in words the first thing in which two runs differ; None where they are alike."""
    for role in old.graphs.keys() | new.graphs.keys():
        if old.graphs.get(role) != new.graphs.get(role):
            return f"another {role} graph in the bundle"
    for name in ("kind", "model", "backend", "precision"):
        if getattr(old, name) != getattr(new, name):
            return f"{name} {getattr(new, name)}, not {getattr(old, name)}"
    for option in sorted(old.options.keys() | new.options.keys()):
        was, now = old.options.get(option), new.options.get(option)
        if was != now:
            return f"{option} {_words(now)}, not {_words(was)}"
    return _changed_input(
        {one.name: one for one in old.inputs}, {one.name: one for one in new.inputs}
    )


def _words(value: object) -> str:
    return (
        str(value) if isinstance(value, (int, float, str)) else msgspec.json.encode(value).decode()
    )


def _changed_input(old: Mapping[str, InputRecord], new: Mapping[str, InputRecord]) -> str | None:
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            return f"a new input: {name}"
        if name not in new:
            return f"one input less: {name}"
        if old[name] != new[name]:
            return f"another content in the input {name}"
    return None
