"""What a run reads: a file, or all files of one kind in a folder, on a disk or in a store."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from magvit_runtime.clips.sources import VIDEO_SUFFIXES
from magvit_runtime.clips.trajectories import is_trajectory_file
from magvit_runtime.errors import InputError
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.files.names import as_text
from magvit_runtime.results.folders import Folder, Place, open_folder
from magvit_runtime.results.run_records import InputRecord, Share

SourceKind = Literal["trajectories", "frames", "video"]

# Files of trajectories that follow each other are put together until they have so many bytes: a
# folder may hold thousands with one trajectory each.
BYTES_TOGETHER = 1 << 20


@dataclass(frozen=True)
class Inputs:
    """The files of a source.

    Attributes:
        folder: Where they lie.
        sizes: Bytes of each, by name, in the order in which they are read.
        kind: What they hold.
        is_many: Whether the source is a folder; then clips are named after their file too.
        left_out: Files of the folder that are of no kind that is read.
    """

    folder: Folder
    sizes: dict[str, int]
    kind: SourceKind
    is_many: bool = False
    left_out: tuple[str, ...] = ()

    @cached_property
    def groups(self) -> list[tuple[str, ...]]:
        """Files that are read one after another, as if they were one."""
        groups: list[list[str]] = []
        room = 0
        for name, size in self.sizes.items():
            if self.kind != "trajectories" or room < size or not groups:
                groups.append([])
                room = BYTES_TOGETHER
            groups[-1].append(name)
            room -= size
        return [tuple(group) for group in groups]

    def own_groups(self, share: Share) -> dict[int, tuple[str, ...]]:
        """The groups from which one job takes clips.

        Where there are at least as many groups as jobs, each job has groups of its own. Else each
        reads all and takes every n-th part.
        """
        groups = dict(enumerate(self.groups))
        if not self._shares_groups(share):
            return groups
        return {i: names for i, names in groups.items() if i % share.jobs == share.index}

    def takes(self, share: Share, group: int, part: int) -> bool:
        """Whether a part of a group is one job's."""
        return self._shares_groups(share) or (group + part) % share.jobs == share.index

    def records(self, share: Share) -> tuple[InputRecord, ...]:
        """All inputs, with digests of those that one job reads."""
        own = {name for group in self.own_groups(share).values() for name in group}
        return tuple(
            InputRecord(as_text(name), size, self._sha256(name) if name in own else None)
            for name, size in self.sizes.items()
        )

    def id_of(self, name: str, item: str) -> str:
        """The id of a clip or trajectory in the run: in a folder, FILE:ID."""
        if not self.is_many:
            return item
        # Videos' clips are called VIDEO:FRAME.
        own = item.rpartition(":")[2] if self.kind == "video" else item
        return f"{as_text(name)}:{own}"

    def _shares_groups(self, share: Share) -> bool:
        return len(self.groups) >= share.jobs

    def _sha256(self, name: str) -> str:
        with self.folder.local(name) as path:
            return file_sha256(path)


def find_inputs(source: Place) -> Inputs:
    """The files of a source.

    Args:
        source: A file, a folder with files of one kind in it and below, or the address of either.

    Raises:
        InputError: There is none, or they are of several kinds.
        MissingPackageError: It is an address, and pyarrow isn't installed.
    """
    folder, names = _place(source)
    sizes = folder.sizes() if names is None else names
    kinds = {name: _kind(name) for name in sizes if not _is_hidden(name)}
    taken = {name: kind for name, kind in kinds.items() if kind is not None}
    if names is not None and not taken:
        raise InputError(
            f"{source} is of an unknown kind", expected="trajectories, a video or .npy"
        )
    if not taken:
        raise InputError(
            f"{source} holds nothing to read",
            found=", ".join(map(as_text, list(kinds)[:3])) or "an empty folder, or none",
            expected="files of trajectories, videos or .npy",
        )
    if len(set(taken.values())) > 1:
        first = {kind: name for name, kind in reversed(taken.items())}
        raise InputError(
            f"{source} holds inputs of several kinds",
            found=", ".join(f"{as_text(name)} ({kind})" for kind, name in first.items()),
            mend="give each kind a folder and a run of its own",
        )
    left_out = tuple(as_text(name) for name in kinds if name not in taken)
    (kind,) = set(taken.values())
    return Inputs(folder, {n: sizes[n] for n in taken}, kind, names is None, left_out)


def check_apart(source: Place, output: Place) -> None:
    """Refuses a folder inside its own source, or around it.

    Raises:
        InputError: It is.
    """
    if not (isinstance(source, Path) and isinstance(output, Path)):
        return
    inner, outer = (Path(os.path.realpath(path)) for path in (output, source))
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise InputError(
            f"{output} and {source} lie in one another",
            found="an output among its inputs",
            mend="choose another -o",
        )


def _place(source: Place) -> tuple[Folder, dict[str, int] | None]:
    """The folder of a source; and the name and size of its file where it is one."""
    if isinstance(source, Path):
        if source.is_dir():
            return open_folder(source), None
        if not source.is_file():
            raise InputError(f"{source} is no file or folder")
        return open_folder(source.parent), {source.name: source.stat().st_size}
    name = PurePosixPath(urlsplit(source).path).name
    if _kind(name) is None:
        return open_folder(source), None
    parts = urlsplit(source)
    above = open_folder(parts._replace(path=str(PurePosixPath(parts.path).parent)).geturl())
    sizes = above.sizes()
    if name not in sizes:
        raise InputError(f"{source} isn't there")
    return above, {name: sizes[name]}


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _kind(name: str) -> SourceKind | None:
    path = Path(name)
    if is_trajectory_file(path):
        return "trajectories"
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return "video"
    return "frames" if path.suffix.lower() == ".npy" else None


def names_in_words(names: Iterable[str]) -> str:
    """The first few of some names."""
    listed = list(names)
    return ", ".join(listed[:3]) + (", …" if len(listed) > 3 else "")
