"""Videos that tests write, with PyAV."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

av = pytest.importorskip("av", reason="video files need PyAV")

# Of a track in an MP4 file: identity, and where the pixels lie in 16.16 fixed point.
_ONE = 0x10000


def pictures(count: int, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    shape = (count, height, width, 3)
    return np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)


def write_video(
    path: Path,
    frames: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    codec: str = "ffv1",
    pixels: str = "bgr0",
    streams: int = 1,
    default: int | None = None,
    rate: int = 25,
) -> Path:
    """RGB frames as a lossless video; of several streams the first is dark."""
    height, width = frames[0].shape[:2]
    options = {"crf": "0"} if codec == "libx264rgb" else {}
    with av.open(str(path), "w") as container:
        made = [container.add_stream(codec, rate=rate, options=options) for _ in range(streams)]
        for stream in made:
            stream.height, stream.width, stream.pix_fmt = height, width, pixels
        if default is not None:
            for number, stream in enumerate(made):
                stream.disposition = int(number == default)
        for frame in frames:
            for stream in made:
                shown = frame if stream is made[-1] else frame // 2
                container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        for stream in made:
            container.mux(stream.encode())
    return path


def write_sound(path: Path, cover: NDArray[np.uint8] | None = None) -> Path:
    """Silence, with a cover or without."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        if cover is not None:
            art = container.add_stream("png", rate=1)
            art.height, art.width, art.pix_fmt = *cover.shape[:2], "rgb24"
            art.disposition = 0x400
            container.mux(art.encode(av.VideoFrame.from_ndarray(cover, format="rgb24")))
            container.mux(art.encode())
        for start in range(0, 8192, 1024):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 8000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


def set_display_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Writes the matrix of an MP4 file's only track, as a phone does."""
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd") + 4
    assert content[header] == 0  # Its version, which says where the matrix lies.
    matrix = [round(x * _ONE) for x in (a, b, 0, c, d, 0, 0, 0)]
    content[header + 40 : header + 76] = struct.pack(">9i", *matrix, 1 << 30)
    path.write_bytes(content)
    return path
