"""Files of decoded clips: pictures in a folder, one array, or one video; written batch by batch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.sources import VIDEO_SUFFIXES
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_folder import atomic_folder
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.hardware.packages import missing_package
from magvit_runtime.results.video_writing import video_writer

_UNSAFE = re.compile(r"[^\w.+-]+")


class ClipWriter(Protocol):
    """Takes one batch of clips after another."""

    def write(self, names: tuple[str, ...], frames: NDArray[np.uint8]) -> None:
        """Appends clips: uint8 RGB [N, T, H, W, 3] or [N, H, W, 3], of one size throughout."""


def clip_writer(path: Path, count: int, rate: float) -> AbstractContextManager[ClipWriter]:
    """Opens a place for clips; it appears when the block ends without an error.

    Args:
        path: A file: .npy (one array), .npz (the array `frames` with the names of its clips, `id`),
            or a video (.avi, .mkv, .mov, .mp4, .webm; all clips in a row, needs PyAV). Without a
            suffix a folder of PNG files (needs Pillow): NAME.png of each image, and
            NAME/frame_0000.png and so on of each clip.
        count: Clips that will be written in all.
        rate: Frames a second, of a video.

    Raises:
        InputError: The file's kind is unknown, or it can't be written.
        MissingPackageError: The package that its kind needs isn't installed.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _npy_writer(path, count)
    if suffix == ".npz":
        return _npz_writer(path, count)
    if suffix in VIDEO_SUFFIXES:
        return video_writer(path, rate)
    if not suffix:
        return _png_writer(path)
    raise InputError(
        f"{path} is of an unknown kind",
        expected=", ".join(sorted({".npy", ".npz"} | VIDEO_SUFFIXES)) + ", or a folder",
    )


class _ArrayWriter:
    """Fills one array of a known number of clips in a file, whatever size they turn out to have."""

    def __init__(self, file: Any, count: int) -> None:
        self._file = file
        self._count = count
        self._shape: tuple[int, ...] | None = None
        self.names: list[str] = []

    def write(self, names: tuple[str, ...], frames: NDArray[np.uint8]) -> None:
        if self._shape is None:
            self._shape = frames.shape[1:]
            header = {"descr": "|u1", "fortran_order": False}
            np.lib.format.write_array_header_1_0(
                self._file, header | {"shape": (self._count, *self._shape)}
            )
        self.names += names
        self._file.write(np.ascontiguousarray(frames).data)


@contextmanager
def _npy_writer(path: Path, count: int) -> Iterator[ClipWriter]:
    with atomic_path(path) as partial, partial.open("wb") as file:
        yield _ArrayWriter(file, count)


@contextmanager
def _npz_writer(path: Path, count: int) -> Iterator[ClipWriter]:
    with atomic_path(path) as partial, ZipFile(partial, "w", ZIP_DEFLATED) as archive:
        with archive.open("frames.npy", "w", force_zip64=True) as file:
            writer = _ArrayWriter(file, count)
            yield writer
        with archive.open("id.npy", "w") as file:
            np.save(file, np.array(writer.names))


@contextmanager
def _png_writer(path: Path) -> Iterator[ClipWriter]:
    try:
        import PIL.Image
    except ImportError as error:
        raise missing_package("PIL", "writing PNG files") from error
    with atomic_folder(path) as folder:
        yield _PngWriter(folder, PIL.Image)


class _PngWriter:
    def __init__(self, folder: Path, image: Any) -> None:
        self._folder = folder
        self._image = image
        self._taken: set[str] = set()

    def write(self, names: tuple[str, ...], frames: NDArray[np.uint8]) -> None:
        for name, clip in zip(names, frames, strict=True):
            place = self._folder / self._file_name(name)
            if clip.ndim == 3:
                self._save(clip, place.with_name(f"{place.name}.png"))
                continue
            place.mkdir()
            for i, frame in enumerate(clip):
                self._save(frame, place / f"frame_{i:04}.png")

    def _file_name(self, name: str) -> str:
        """A name that no other clip has, on file systems that ignore case too, and safe in any."""
        base = _UNSAFE.sub("_", name).strip(".")[:100] or "clip"
        unique, number = base, 2
        while unique.casefold() in self._taken:
            unique, number = f"{base}_{number}", number + 1
        self._taken.add(unique.casefold())
        return unique

    def _save(self, frame: NDArray[np.uint8], path: Path) -> None:
        self._image.fromarray(frame).save(path, "PNG")
