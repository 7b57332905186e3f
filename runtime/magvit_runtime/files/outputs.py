"""The rule of every command: nothing is written over a file that is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from magvit_runtime.errors import InputError

Identity = tuple[int, int]


def check_outputs(*outputs: Path | None, inputs: tuple[Path | None, ...]) -> None:
    """Refuses outputs that would replace an input, or each other.

    Files are compared as the system knows them (device and inode), so that links, hard links,
    `./x`, and another case on a disk that knows none are all the same file.

    Args:
        outputs: Files that will be written; None is one that wasn't asked for.
        inputs: Files that are read, and folders of which any file may be; None as above, and what
            isn't there is left to its reader.

    Raises:
        InputError: One is an input, or two are one file.
    """
    written = [output for output in outputs if output is not None]
    places: dict[Identity | str, Path] = {}
    for output in written:
        place = _identity(output) or os.path.realpath(output)
        if place in places:
            raise InputError(
                f"{output} and {places[place]} would be one file",
                mend="give each output a name of its own",
            )
        places[place] = output
    there = [path for path in written if path.exists()]
    # Folders are gone through only where something could be replaced.
    for file in (file for path in inputs if path is not None and there for file in _files(path)):
        identity = _identity(file)
        if identity is not None and identity in places:
            raise InputError(
                f"{places[identity]} can't be written: it is {file}, which is read",
                mend="give the output another name",
            )


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
