"""Videos as clips; lossless ones keep every pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_runtime import InputError
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import ReadReport, RenderStyle

av = pytest.importorskip("av", reason="video files need PyAV")

STYLE = RenderStyle(height=32, width=48, frames=5)
LOSSLESS = [("clip.mkv", "ffv1", "bgr0"), ("clip.mp4", "libx264rgb", "rgb24")]


def frames(count: int, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    shape = (count, height, width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def write(
    path: Path, pictures: NDArray[np.uint8], codec: str = "ffv1", pixels: str = "bgr0"
) -> Path:
    with av.open(str(path), "w") as container:
        options = {"crf": "0"} if codec == "libx264rgb" else {}
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pixels
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize(("name", "codec", "pixels"), LOSSLESS, ids=["ffv1", "libx264rgb"])
def test_a_lossless_video_gives_its_very_pixels(
    tmp_path: Path, name: str, codec: str, pixels: str, batch_size: int
) -> None:
    """Seventeen frames are three clips of five; the two that are left over are left out."""
    pictures = frames(17)
    path = write(tmp_path / name, pictures, codec, pixels)
    batches = list(read_clips(path, STYLE, ReadReport(), batch_size))
    assert max(len(batch.ids) for batch in batches) <= batch_size
    # A clip is named after its first frame.
    assert [name for batch in batches for name in batch.ids] == ["clip:0", "clip:5", "clip:10"]
    read = np.concatenate([batch.frames for batch in batches])
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pictures[:15].reshape(3, 5, 32, 48, 3))


def test_frames_of_another_size(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mkv", frames(5, height=48, width=32))
    with pytest.raises(InputError) as error:
        list(read_clips(path, STYLE, ReadReport(), 1))
    assert str(error.value) == (
        f"{path} has frames of another size: found 48x32, expected 32x48. "
        "Fix: scale it first, or give --height and --width"
    )


def test_a_video_shorter_than_a_clip(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mkv", frames(4))
    with pytest.raises(InputError) as error:
        list(read_clips(path, STYLE, ReadReport(), 1))
    assert str(error.value) == f"{path} is shorter than one clip: expected 5 frames"


def sound_alone(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        samples = np.zeros((1, 800), np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    "make",
    [
        sound_alone,
        lambda path: path.write_bytes(b"no video"),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(missing_ok=True),
    ],
    ids=["sound alone", "text", "empty", "missing"],
)
def test_a_file_without_video(tmp_path: Path, make) -> None:
    path = tmp_path / "clip.mkv"
    make(path)
    with pytest.raises(InputError, match="can't be decoded: found ") as error:
        list(read_clips(path, STYLE, ReadReport(), 1))
    assert str(error.value).startswith(str(path))
