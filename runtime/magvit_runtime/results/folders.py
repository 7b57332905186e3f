"""Folders of files, on a disk or in an object store: listed, read, and written file by file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import urlsplit

from magvit_runtime.errors import InputError, MagvitError, first_line
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.files.temporary import is_temporary
from magvit_runtime.hardware.packages import missing_package

# A folder on a disk, or an address such as s3://bucket/folder.
Place = Path | str
# What only shows a file once all of it is there.
_STORES = ("s3", "gs", "gcs")


class Folder(Protocol):
    """Files by their names, which have "/" between folders."""

    def address(self, name: str = "") -> str:
        """The folder, or a file in it, as people write it."""

    def sizes(self) -> dict[str, int]:
        """Names of all files, in order, and their bytes; none where the folder isn't there."""

    def read(self, name: str) -> bytes:
        """The content of a file."""

    def write(self, name: str, content: bytes) -> None:
        """Makes or replaces a file, whole or not at all."""

    def remove(self, name: str) -> None:
        """Removes a file or folder, if it is there."""

    def local(self, name: str) -> AbstractContextManager[Path]:
        """The path of the file, or of a copy, on a disk of this machine."""


def is_address(place: Place) -> bool:
    """Whether a place is an address, as s3://bucket/folder, and no path."""
    return isinstance(place, str) and "://" in place


def place_of(text: str) -> Place:
    """A path or an address, by how it is written; file:// is a path."""
    if not is_address(text):
        return Path(text)
    parts = urlsplit(text)
    return Path(parts.path) if parts.scheme == "file" and not parts.netloc else text


def is_folder_place(place: Place) -> bool:
    """Whether an output of this name is a folder: it is one, or has no file name's ending."""
    if isinstance(place, Path):
        return place.is_dir() or not (place.suffix or place.exists())
    return not PurePosixPath(urlsplit(place).path).suffix


def open_folder(place: Place) -> Folder:
    """A folder, whether it is there yet or not.

    Raises:
        InputError: The address is of a kind that isn't known.
        MissingPackageError: It is an address, and pyarrow isn't installed.
    """
    place = place_of(place) if isinstance(place, str) else place
    return _LocalFolder(place) if isinstance(place, Path) else _StoreFolder(place)


class _LocalFolder:
    """A folder on a disk.

    Args:
        root: Its path.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def __reduce__(self) -> tuple[object, ...]:
        # A relative path would mean another place in another process.
        return _LocalFolder, (self._root.absolute(),)

    def address(self, name: str = "") -> str:
        return str(self._root / name)

    def sizes(self) -> dict[str, int]:
        found = {}
        for folder, _, names in os.walk(self._root):
            for path in (Path(folder, name) for name in names):
                if not is_temporary(path) and path.is_file():
                    found[path.relative_to(self._root).as_posix()] = path.stat().st_size
        return dict(sorted(found.items()))

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        with atomic_path(self._root / name) as partial:
            partial.write_bytes(content)

    def remove(self, name: str) -> None:
        path = self._root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        yield self._root / name


class _StoreFolder:
    """A folder in an object store, through pyarrow.

    Keys and regions are found as AWS's and Google's own tools find them.

    Args:
        address: As s3://bucket/folder.

    Raises:
        InputError: The address is of a kind that isn't known.
        MissingPackageError: pyarrow isn't installed.
    """

    def __init__(self, address: str) -> None:
        try:
            from pyarrow import fs
        except ImportError as error:
            raise missing_package("pyarrow", f"reading and writing {address}") from error
        if urlsplit(address).scheme not in _STORES:
            expected = "a path, file://, s3:// or gs://"
            raise InputError(f"{address} is of an unknown kind", expected=expected)
        self._address = address.rstrip("/")
        self._fs: Any = fs
        with self._naming("open", ""):
            self._system, root = fs.FileSystem.from_uri(self._address)
        self._root = root.rstrip("/")

    def __reduce__(self) -> tuple[object, ...]:
        return _StoreFolder, (self._address,)

    def address(self, name: str = "") -> str:
        parts = urlsplit(self._address)
        return parts._replace(path=f"{parts.path}/{name}" if name else parts.path).geturl()

    def sizes(self) -> dict[str, int]:
        chosen = self._fs.FileSelector(self._root, allow_not_found=True, recursive=True)
        with self._naming("list", ""):
            found = self._system.get_file_info(chosen)
        skipped = len(self._root) + 1
        return dict(sorted((one.path[skipped:], one.size) for one in found if one.is_file))

    def read(self, name: str) -> bytes:
        with self._naming("read", name), self._system.open_input_file(self._path(name)) as file:
            content: bytes = file.read()
            return content

    def write(self, name: str, content: bytes) -> None:
        with self._naming("write", name):  # noqa: SIM117 - opening can fail too
            with self._system.open_output_stream(self._path(name)) as file:
                file.write(content)

    def remove(self, name: str) -> None:
        with self._naming("remove", name):
            kind = self._system.get_file_info(self._path(name)).type
            if kind == self._fs.FileType.Directory:
                self._system.delete_dir(self._path(name))
            elif kind == self._fs.FileType.File:
                self._system.delete_file(self._path(name))

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        with TemporaryDirectory(prefix="magvit-") as folder:
            copy = Path(folder, PurePosixPath(name).name)
            with self._naming("read", name):
                self._fs.copy_files(
                    self._path(name),
                    str(copy),
                    source_filesystem=self._system,
                    destination_filesystem=self._fs.LocalFileSystem(),
                )
            yield copy

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _naming(self, action: str, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise InputError(f"{self.address(name)} isn't there") from error
        except (OSError, ValueError) as error:
            raise MagvitError(
                f"can't {action} {self.address(name)}", found=first_line(error)
            ) from error
