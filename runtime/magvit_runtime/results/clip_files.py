"""Files of decoded clips: pictures in a folder, one array, or one video; written batch by batch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
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
            or a video (.avi, .m4v, .mkv, .mov, .mp4, .webm; all clips in a row, needs PyAV).
            Without a suffix a folder of PNG files (needs Pillow): NAME.png of each image, and
            NAME/frame_0000.png and so on of each clip.
        count: Clips that will be written in all.
        rate: Frames a second, of a video.

    Raises:
        InputError: The file's kind is unknown, or it can't be written.
        MissingPackageError: The package that its kind needs isn't installed.
    """
    match _kind(path):
        case "video":
            return video_writer(path, rate)
        case "folder":
            return _png_writer(path, _PngWriter)
        case suffix:
            return _array_writer(path, suffix, (count,))


def joined_writer(
    path: Path, videos: Mapping[str, int], rate: float
) -> AbstractContextManager[ClipWriter]:
    """Opens a place for videos that come in parts; it appears when the block ends without an error.

    Each call of `write` takes one part, [1, T, H, W, 3], under the name of its video.

    Args:
        path: As for `clip_writer`: a video file for one video; a folder of NAME/frame_0000.png and
            so on; or an array [N, T, H, W, 3] of N videos of one length.
        videos: Name of each and how many frames it has, in the order in which they are written.
        rate: Frames a second, of a video file.

    Raises:
        InputError: The file's kind is unknown, it can't hold these videos, or it can't be written.
        MissingPackageError: The package that its kind needs isn't installed.
    """
    match _kind(path):
        case "video":
            if len(videos) > 1:
                raise InputError(
                    f"{path} would hold one video",
                    found=f"tokens of {len(videos)}: {', '.join(videos)}",
                    mend="give a folder: each becomes a folder of pictures in it",
                )
            return video_writer(path, rate)
        case "folder":
            return _png_writer(path, _JoinedPngWriter)
        case suffix:
            lengths = sorted(set(videos.values()))
            if len(lengths) > 1:
                raise InputError(
                    f"{path} would hold videos of one length",
                    found=f"{', '.join(map(str, lengths))} frames",
                    mend="give a folder: each becomes a folder of pictures in it",
                )
            return _array_writer(path, suffix, (len(videos), *lengths), tuple(videos))


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        return suffix
    if suffix and suffix not in VIDEO_SUFFIXES:
        raise InputError(
            f"{path} is of an unknown kind",
            expected=", ".join(sorted({".npy", ".npz"} | VIDEO_SUFFIXES)) + ", or a folder",
        )
    return "video" if suffix else "folder"


class _ArrayWriter:
    """Fills one array in a file; of its shape the first sizes are known, and the others follow."""

    def __init__(self, file: Any, known: tuple[int, ...]) -> None:
        self._file = file
        self._known = known
        self._shape: tuple[int, ...] | None = None
        self.names: list[str] = []

    def write(self, names: tuple[str, ...], frames: NDArray[np.uint8]) -> None:
        shape = (*self._known, *frames.shape[len(self._known) :])
        if self._shape is None:
            self._shape = shape
            header = {"descr": "|u1", "fortran_order": False, "shape": self._shape}
            np.lib.format.write_array_header_1_0(self._file, header)
        if shape != self._shape:
            raise InputError(
                "an array holds clips of one size",
                found=list(shape),
                expected=list(self._shape),
                mend="give a folder",
            )
        self.names += names
        self._file.write(np.ascontiguousarray(frames).data)


@contextmanager
def _array_writer(
    path: Path, suffix: str, known: tuple[int, ...], names: tuple[str, ...] | None = None
) -> Iterator[ClipWriter]:
    """Writes .npy or .npz; the names of the clips are those that are written, or are given."""
    with atomic_path(path) as partial:
        if suffix == ".npy":
            with partial.open("wb") as file:
                yield _ArrayWriter(file, known)
            return
        with ZipFile(partial, "w", ZIP_DEFLATED) as archive:
            with archive.open("frames.npy", "w", force_zip64=True) as entry:
                writer = _ArrayWriter(entry, known)
                yield writer
            with archive.open("id.npy", "w") as entry:
                np.save(entry, np.array(writer.names if names is None else names))


def png_writer(folder: Path) -> ClipWriter:
    """Writes NAME.png of images into a folder that is there.

    Raises:
        MissingPackageError: Pillow isn't installed.
    """
    return _PngWriter(folder, _pillow_images())


@contextmanager
def _png_writer(path: Path, kind: Callable[[Path, Any], ClipWriter]) -> Iterator[ClipWriter]:
    images = _pillow_images()
    with atomic_folder(path) as folder:
        yield kind(folder, images)


def _pillow_images() -> Any:
    try:
        import PIL.Image
    except ImportError as error:
        raise missing_package("PIL", "writing PNG files") from error
    return PIL.Image


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
            self._save_frames(clip, place)

    def _file_name(self, name: str) -> str:
        """A name that no other clip has, on file systems that ignore case too, and safe in any."""
        base = _UNSAFE.sub("_", name).strip(".")[:100] or "clip"
        unique, number = base, 2
        while unique.casefold() in self._taken:
            unique, number = f"{base}_{number}", number + 1
        self._taken.add(unique.casefold())
        return unique

    def _save_frames(self, frames: NDArray[np.uint8], folder: Path, first: int = 0) -> None:
        for i, frame in enumerate(frames, first):
            self._save(frame, folder / f"frame_{i:04}.png")

    def _save(self, frame: NDArray[np.uint8], path: Path) -> None:
        self._image.fromarray(frame).save(path, "PNG")


class _JoinedPngWriter(_PngWriter):
    """Numbers the frames of a video through all of its parts."""

    def __init__(self, folder: Path, image: Any) -> None:
        super().__init__(folder, image)
        self._name: str | None = None
        self._place = folder
        self._written = 0

    def write(self, names: tuple[str, ...], frames: NDArray[np.uint8]) -> None:
        (name,), (part,) = names, frames
        if name != self._name:
            self._name, self._written = name, 0
            self._place = self._folder / self._file_name(name)
            self._place.mkdir()
        self._save_frames(part, self._place, self._written)
        self._written += len(part)
