"""Videos as clips: every pixel of lossless ones, upright, with what their ends become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from runtime.clips.videos import av, pictures, set_display_matrix, write_sound, write_video

from magvit_runtime import InputError
from magvit_runtime.clips.batches import ClipBatch, VideoPlace
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import ReadReport, RenderStyle, StyleOptions
from magvit_runtime.clips.video import Cutting, Tail
from magvit_runtime.clips.video_frames import VideoReport

STYLE = RenderStyle(height=32, width=48, frames=5)
LOSSLESS = [("clip.mkv", "ffv1", "bgr0"), ("clip.mp4", "libx264rgb", "rgb24")]


def read(
    path: Path, style: StyleOptions = STYLE, batch_size: int = 2, **cutting: Any
) -> tuple[list[ClipBatch], VideoReport]:
    report = VideoReport()
    batches = read_clips(
        path, style, ReadReport(), batch_size, cutting=Cutting(**cutting), video_report=report
    )
    return list(batches), report


def frames_of(path: Path, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    batches, _ = read(path, StyleOptions(height=height, width=width, frames=1), 1)
    return np.concatenate([batch.frames[:, 0] for batch in batches])


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize(("name", "codec", "pixels"), LOSSLESS, ids=["ffv1", "libx264rgb"])
def test_a_lossless_video_gives_its_very_pixels(
    tmp_path: Path, name: str, codec: str, pixels: str, batch_size: int
) -> None:
    """Seventeen frames are three clips of five; the two that are left over are left out."""
    shown = pictures(17)
    path = write_video(tmp_path / name, shown, codec, pixels)
    batches = list(read_clips(path, STYLE, ReadReport(), batch_size))
    assert max(len(batch.ids) for batch in batches) <= batch_size
    # A clip is named after its first frame.
    assert [name for batch in batches for name in batch.ids] == ["clip:0", "clip:5", "clip:10"]
    found = np.concatenate([batch.frames for batch in batches])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, shown[:15].reshape(3, 5, 32, 48, 3))


# What becomes of the last frames.


@pytest.mark.parametrize(
    ("tail", "stride", "lengths", "left_out", "repeated"),
    [
        ("drop", 4, [5, 5], 3, 0),
        ("pad", 4, [5, 5, 5], 0, 2),
        ("short", 1, [5, 5, 3], 0, 0),
        ("short", 2, [5, 5, 3], 0, 0),
        ("short", 4, [5, 5, 5], 0, 2),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_rule_for_frames_that_fill_no_clip(
    tmp_path: Path,
    tail: Tail,
    stride: int,
    lengths: list[int],
    left_out: int,
    repeated: int,
    batch_size: int,
) -> None:
    shown = pictures(13)
    path = write_video(tmp_path / "walk.mkv", shown)
    batches, report = read(path, STYLE, batch_size, tail=tail, time_stride=stride)
    found = [clip for batch in batches for clip in batch.frames]
    assert [len(clip) for clip in found] == lengths
    np.testing.assert_array_equal(
        np.concatenate(found), np.concatenate([shown, shown[[12] * repeated]])[: sum(lengths)]
    )
    assert asdict(report) == {
        "frames": 13,
        "left_out": left_out,
        "repeated": repeated,
        "problems": [],
    }
    places = [place for batch in batches for place in batch.places]
    assert [place.first_frame for place in places] == [0, 5, 10][: len(lengths)]
    assert [place.frames for place in places] == [5, 5, 3][: len(lengths)]
    assert [name for batch in batches for name in batch.ids] == [
        f"walk:{place.first_frame}" for place in places
    ]


def test_a_clip_knows_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "walk.mkv", pictures(7), rate=30)
    monkeypatch.chdir(tmp_path)
    batches, _ = read(Path("walk.mkv"), tail="pad")
    source = str(tmp_path / "walk.mkv")
    assert [place for batch in batches for place in batch.places] == [
        VideoPlace(source, 0, 5, 32, 48, "30"),
        VideoPlace(source, 5, 2, 32, 48, "30"),
    ]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    _, report = read(write_video(tmp_path / "walk.mkv", pictures(13)))
    assert report.summary() == (
        "13 frames read; the last 3 fill no clip and are left out "
        "(--tail pad or --tail short keeps them)"
    )
    _, report = read(tmp_path / "walk.mkv", tail="pad")
    assert report.summary() == (
        "13 frames read; the last one is repeated 2 times to fill the last clip"
    )


@pytest.mark.parametrize("count", [5, 10])
@pytest.mark.parametrize("tail", ["drop", "pad", "short"])
def test_a_video_of_whole_clips_has_no_tail(tmp_path: Path, count: int, tail: Tail) -> None:
    batches, report = read(write_video(tmp_path / "v.mkv", pictures(count)), tail=tail)
    assert sum(len(batch.ids) for batch in batches) == count // 5
    assert report.summary() == f"{count} frames read"


@pytest.mark.parametrize(("tail", "length"), [("pad", 5), ("short", 4)])
def test_a_video_shorter_than_a_clip(tmp_path: Path, tail: Tail, length: int) -> None:
    path = write_video(tmp_path / "clip.mkv", pictures(4))
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == (
        f"{path} is shorter than one clip: found 4 frames, expected 5 frames. "
        "Fix: pass --tail pad or --tail short, or --frames 4"
    )
    (batch,), _ = read(path, tail=tail)
    assert batch.frames.shape == (1, length, 32, 48, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"tail": "cut"}, "no rule for the tail has this name: found cut"), ({"time_stride": 0}, "0")],
)
def test_rules_that_there_arent(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Cutting(**options)


# Turned as players turn it.

TURNS: dict[str, tuple[tuple[float, ...], Callable[[NDArray[Any]], NDArray[Any]]]] = {
    "as it is": ((1, 0, 0, 1), lambda p: p),
    "a quarter clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "a quarter counterclockwise": ((0, -1, 1, 0), np.rot90),
    "half": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "upside down in a mirror": ((1, 0, 0, -1), np.flipud),
    "a quarter and mirrored": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    "the other quarter and mirrored": ((0, -1, -1, 0), lambda p: np.rot90(p.transpose(1, 0, 2), 2)),
    "scaled": ((2, 0, 0, 2), lambda p: p),
    "zeros": ((0, 0, 0, 0), lambda p: p),
}


@pytest.mark.parametrize("turn", TURNS)
def test_frames_are_turned_upright(tmp_path: Path, turn: str) -> None:
    matrix, turned = TURNS[turn]
    stored = pictures(3)
    path = write_video(tmp_path / "phone.mp4", stored, "libx264rgb", "rgb24")
    set_display_matrix(path, *matrix)
    expected = np.stack([turned(frame) for frame in stored])
    np.testing.assert_array_equal(frames_of(path, *expected.shape[1:3]), expected)


@pytest.mark.parametrize(
    "matrix", [(0.7071, 0.7071, -0.7071, 0.7071), (1, 0.5, 0, 1), (1, 0, 0, 0), (0, 1, 0, 0)]
)
def test_no_other_turn_is_taken(tmp_path: Path, matrix: tuple[float, ...]) -> None:
    path = write_video(tmp_path / "phone.mp4", pictures(3), "libx264rgb", "rgb24")
    set_display_matrix(path, *matrix)
    with pytest.raises(InputError) as error:
        frames_of(path)
    assert str(error.value).startswith(
        f"{path} can't be shown upright: a video is turned by something else than a right angle: "
        "found the display matrix "
    )
    assert str(error.value).endswith(
        "Fix: turn it upright first: ffmpeg -i VIDEO -c:v ffv1 upright.mkv"
    )


def test_the_size_is_that_of_upright_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "phone.mp4", pictures(5), "libx264rgb", "rgb24")
    set_display_matrix(path, 0, 1, -1, 0)
    with pytest.raises(InputError, match="found 48x32, expected 32x48"):
        read(path)
    batches, _ = read(path, StyleOptions(height=48, width=32, frames=5))
    assert (batches[0].places[0].height, batches[0].places[0].width) == (48, 32)


# Colour, by the formulas of ITU-R BT.601, BT.709 and BT.2020: red's and blue's share of luma.

WEIGHTS = {"601": (5, 0.299, 0.114), "709": (1, 0.2126, 0.0722), "2020": (9, 0.2627, 0.0593)}
LIMITED, FULL = 1, 2


def write_yuv(
    path: Path, samples: tuple[int, int, int], pixels: str, space: int, reach: int
) -> Path:
    """Five frames of one colour, in samples of 8 or 10 bits."""
    kind = np.uint16 if "10" in pixels else np.uint8
    frame = av.VideoFrame(48, 32, pixels)
    for plane, sample in zip(frame.planes, (*samples, 128), strict=False):
        plane.update(np.full(plane.buffer_size // kind().itemsize, sample, kind).tobytes())
    frame.colorspace, frame.color_range = space, reach
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, pixels
        stream.codec_context.colorspace, stream.codec_context.color_range = space, reach
        for number in range(5):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("pixels", ["yuv444p", "yuv420p", "yuv420p10le", "yuv422p10le", "yuva420p"])
@pytest.mark.parametrize("standard", WEIGHTS)
@pytest.mark.parametrize("reach", [LIMITED, FULL])
def test_colour_is_what_the_stream_says(
    tmp_path: Path, pixels: str, standard: str, reach: int
) -> None:
    space, red_share, blue_share = WEIGHTS[standard]
    scale = 4 if "10" in pixels else 1
    y, u, v = 120 * scale, 90 * scale, 180 * scale
    path = write_yuv(tmp_path / "flat.mkv", (y, u, v), pixels, space, reach)
    largest = 256 * scale - 1
    black, luma, chroma = (
        (16 * scale, 219 * scale, 224 * scale) if reach == LIMITED else (0, largest, largest)
    )
    level = (y - black) / luma
    red = level + 2 * (1 - red_share) * (v - 128 * scale) / chroma
    blue = level + 2 * (1 - blue_share) * (u - 128 * scale) / chroma
    green = (level - red_share * red - blue_share * blue) / (1 - red_share - blue_share)
    expected = 255 * np.array([red, green, blue])
    # The conversion is in integers; of another standard or range it is 8 off and more.
    assert np.abs(frames_of(path)[:, 8:24, 8:24] - expected).max() <= 3


def test_gray_is_gray(tmp_path: Path) -> None:
    path = write_yuv(tmp_path / "gray.mkv", (77, 0, 0), "gray", 2, 0)
    np.testing.assert_array_equal(frames_of(path), np.full((5, 32, 48, 3), 77))


# What files have besides.


def test_frames_come_as_they_are_whatever_time_lies_between_them(tmp_path: Path) -> None:
    shown = pictures(5)
    path = tmp_path / "changing.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        for picture, time in zip(shown, (0, 10, 500, 510, 2000), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    batches, report = read(path)
    np.testing.assert_array_equal(batches[0].frames[0], shown)
    assert report.problems == []


@pytest.mark.parametrize("default", [0, 1])
def test_of_several_videos_the_default_one_is_read(tmp_path: Path, default: int) -> None:
    shown = pictures(5)
    path = write_video(tmp_path / "two.mkv", shown, streams=2, default=default)
    batches, report = read(path)
    np.testing.assert_array_equal(batches[0].frames[0], shown if default else shown // 2)
    assert report.problems == [f"{path} has 2 videos; the one of stream {default} is read"]


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (31, 127)])
def test_nothing_is_drawn_on_a_video(tmp_path: Path, size: tuple[int, int]) -> None:
    """Options that couldn't be drawn at its size don't refuse it."""
    height, width = size
    shown = pictures(2, height, width)
    path = write_video(tmp_path / "tiny.mkv", shown)
    style = StyleOptions(height=height, width=width, frames=2, margin=200, head_level=0)
    (batch,), _ = read(path, style)
    np.testing.assert_array_equal(batch.frames[0], shown)
    (tmp_path / "points.csv").write_text("id,x,y\na,0,0\na,1,1\n")
    with pytest.raises(InputError, match="margin leaves no room"):
        list(read_clips(tmp_path / "points.csv", style, ReadReport(), 1))


def test_frames_of_another_size(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", pictures(5, height=48, width=32))
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == (
        f"{path} has frames of another size: found 48x32, expected 32x48. "
        "Fix: scale it first, or give --height and --width"
    )


# Files that are damaged, or no videos.


@pytest.mark.parametrize(("codec", "pixels"), [("ffv1", "bgr0"), ("libx264rgb", "rgb24")])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_file_that_was_cut_off_says_so(
    tmp_path: Path, codec: str, pixels: str, share: float
) -> None:
    shown = pictures(40)
    path = write_video(tmp_path / "cut.mkv", shown, codec, pixels)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    batches, report = read(path)
    found = np.concatenate([batch.frames for batch in batches]).reshape(-1, 32, 48, 3)
    np.testing.assert_array_equal(found, shown[: len(found)])
    assert report.frames < 40
    assert report.problems == [f"{path} ended after {report.frames / 25:.2f} of 1.60 seconds"]


def test_damage_in_the_middle_names_the_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", pictures(20), "mjpeg", "yuvj420p")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=rf"{path} is damaged after \d+ frames: found .*Fix: keep"):
        read(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: write_sound(path), "has no video: .*: found audio"),
        (lambda path: write_sound(path, pictures(1)[0]), "has no video: .* found audio, a cover"),
        (lambda path: path.write_bytes(b"no video"), "can't be decoded: found "),
        (lambda path: path.write_bytes(b""), "is empty: found 0 bytes"),
        (lambda path: path.unlink(missing_ok=True), "is no file"),
        (lambda path: path.mkdir(), "is no file"),
    ],
    ids=["sound alone", "sound and a cover", "text", "empty", "missing", "folder"],
)
def test_a_file_without_video(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(InputError, match=words) as error:
        read(path)
    assert str(error.value).startswith(str(path))
