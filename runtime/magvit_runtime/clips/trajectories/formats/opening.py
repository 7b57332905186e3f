"""Opens a file for reading again and again: plain, compressed with gzip, or a pipe."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from magvit_runtime.errors import TrajectoryError

GZIP = b"\x1f\x8b"


def _copy(pipe: IO[bytes]) -> IO[bytes]:
    copy = tempfile.TemporaryFile()  # noqa: SIM115  # The caller's to close.
    shutil.copyfileobj(pipe, copy)
    copy.seek(0)
    return copy


@contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file, which can be read from its start again by `seek(0)`.

    Contents that begin as gzip's do are decompressed, whatever the file's name. A pipe is copied
    to a temporary file.

    Raises:
        TrajectoryError: Compressed contents are damaged; where they are read.
    """
    with path.open("rb") as file, file if file.seekable() else _copy(file) as plain:
        start = plain.read(len(GZIP))
        plain.seek(0)
        try:
            if start == GZIP:
                with gzip.open(plain) as unzipped:
                    yield unzipped  # type: ignore[misc]  # GzipFile is IO[bytes] in all but name.
            else:
                yield plain
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise TrajectoryError(
                f"{path} can't be decompressed",
                found=error,
                mend="copy the file again: it is damaged or cut short",
            ) from error
