"""Videos to tokens and back: how many frames come back, which ones, in what file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from runtime.clips.videos import av, pictures, write_video

from magvit_runtime import Detokenizer, InputError, Tokenizer
from magvit_runtime.cli.detokenize import detokenize
from magvit_runtime.cli.tokenize import tokenize
from magvit_runtime.clips.trajectories import RenderStyle
from magvit_runtime.clips.video import Tail
from magvit_runtime.results.token_files import read_tokens

STYLE = RenderStyle(frames=17, height=32, width=32)
TOKENS = ("tokens.parquet", "tokens.npz")
Made = Callable[..., Path]


@pytest.fixture(scope="module")
def tokens(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Tokens of an MP4 file of so many frames."""

    @cache
    def made(count: int, tail: Tail, rate: int = 25, file: str = "tokens.npz") -> Path:
        folder = tmp_path_factory.mktemp(f"{count}-{tail}")
        video = write_video(
            folder / "walk.mp4", pictures(count, 32, 32), "libx264", "yuv420p", rate=rate
        )
        tokenize(small_bundle, video, output=folder / file, style=STYLE, tail=tail)
        return folder / file

    return made


def decoded(path: Path) -> tuple[NDArray[np.uint8], Fraction]:
    """Frames of a video, and how many it has a second."""
    with av.open(str(path)) as container:
        (stream,) = container.streams
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return np.stack(frames), stream.average_rate


@pytest.mark.parametrize(
    ("count", "tail", "expected"),
    [
        *((count, tail, count) for count in (5, 17, 18, 33, 40) for tail in ("pad", "short")),
        (17, "drop", 17),
        (18, "drop", 17),
        (33, "drop", 17),
        (40, "drop", 34),
    ],
)
def test_so_many_frames_come_back(
    small_bundle: Path, tokens: Made, tmp_path: Path, count: int, tail: Tail, expected: int
) -> None:
    for name in ("out.mkv", "out.mp4"):
        outcome = detokenize(small_bundle, tokens(count, tail), output=tmp_path / name)
        frames, rate = decoded(tmp_path / name)
        assert frames.shape == (expected, 32, 32, 3)
        assert rate == 25
        assert outcome.facts["frames"] == expected
        assert outcome.facts["videos"] == {"walk": expected}
        assert outcome.facts["warning"] is None


def test_drop_makes_nothing_of_five_frames(tokens: Made) -> None:
    with pytest.raises(InputError, match="shorter than one clip"):
        tokens(5, "drop")


@pytest.mark.parametrize("tail", ["pad", "short"])
@pytest.mark.parametrize("file", TOKENS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_frames_are_those_of_the_clips_in_order(
    small_bundle: Path, tokens: Made, tmp_path: Path, tail: Tail, file: str, batch_size: int
) -> None:
    source = tokens(40, tail, 12, file)
    detokenize(small_bundle, source, output=tmp_path / "out.mkv", batch_size=batch_size)
    frames, rate = decoded(tmp_path / "out.mkv")
    assert rate == 12
    shown, _ = decoded(source.with_name("walk.mp4"))
    # 17, 17 and 6 frames; the last clip has 9 where it is short.
    last = np.concatenate([shown[34:], *[shown[-1:]] * (11 if tail == "pad" else 3)])
    with Tokenizer.open(small_bundle) as encode, Detokenizer.open(small_bundle) as decode:
        parts = [decode(encode(clip[None]))[0] for clip in (shown[:17], shown[17:34], last)]
    np.testing.assert_array_equal(frames, np.concatenate([*parts[:2], parts[2][:6]]))


def test_the_rate_may_be_another(small_bundle: Path, tokens: Made, tmp_path: Path) -> None:
    detokenize(small_bundle, tokens(17, "drop"), output=tmp_path / "out.mkv", rate=30000 / 1001)
    _, rate = decoded(tmp_path / "out.mkv")
    assert rate == Fraction(30000, 1001)


def test_pictures_are_numbered_through_the_video(
    small_bundle: Path, tokens: Made, tmp_path: Path
) -> None:
    image = pytest.importorskip("PIL.Image", reason="PNG files need Pillow")
    source = tokens(18, "short")
    detokenize(small_bundle, source, output=tmp_path / "pictures")
    detokenize(small_bundle, source, output=tmp_path / "out.npy")
    array = np.load(tmp_path / "out.npy")
    assert array.shape == (1, 18, 32, 32, 3)
    files = sorted((tmp_path / "pictures" / "walk").iterdir())
    assert [file.name for file in files] == [f"frame_{i:04}.png" for i in range(18)]
    np.testing.assert_array_equal([np.asarray(image.open(file)) for file in files], array[0])


def joined(sources: Sequence[Path], output: Path, order: Sequence[int], **columns: Any) -> Path:
    """One token file of the rows of several, in another order, some columns changed."""
    files = [dict(np.load(source)) for source in sources]
    changed = {
        name: np.concatenate([file[name] for file in files])[list(order)]
        for name in files[0]
        if name != "info"
    }
    np.savez(output, info=files[0]["info"], **{**changed, **columns})
    return output


def test_videos_of_one_token_file(small_bundle: Path, tokens: Made, tmp_path: Path) -> None:
    """Rows in any order; files of one name in two folders."""
    pytest.importorskip("PIL", reason="PNG files need Pillow")
    sources = [tokens(18, "pad"), tokens(40, "pad")]
    both = joined(sources, tmp_path / "both.npz", [4, 1, 2, 0, 3])
    outcome = detokenize(small_bundle, both, output=tmp_path / "out")
    # The first row's video comes first.
    assert outcome.facts["videos"] == {"walk": 40, "walk_2": 18}
    counts = {path.name: len(list(path.iterdir())) for path in (tmp_path / "out").iterdir()}
    assert counts == {"walk": 40, "walk_2": 18}
    with pytest.raises(InputError, match=r"would hold one video: found tokens of 2: walk, walk_2"):
        detokenize(small_bundle, both, output=tmp_path / "out.mkv")
    with pytest.raises(InputError, match=r"would hold videos of one length: found 18, 40 frames"):
        detokenize(small_bundle, both, output=tmp_path / "out.npy")


def test_videos_of_one_length_are_an_array(
    small_bundle: Path, tokens: Made, tmp_path: Path
) -> None:
    sources = [tokens(18, "pad"), tokens(18, "pad", 12)]
    both = joined(sources, tmp_path / "both.npz", [0, 2, 1, 3])
    detokenize(small_bundle, both, output=tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["frames"].shape == (2, 18, 32, 32, 3)
        assert arrays["id"].tolist() == ["walk", "walk_2"]
        for one, source in zip(arrays["frames"], sources, strict=True):
            detokenize(small_bundle, source, output=tmp_path / "one.npy")
            np.testing.assert_array_equal(one, np.load(tmp_path / "one.npy")[0])


@pytest.mark.parametrize("order", [[0, 2], [0, 1, 1, 2], [1, 0, 2, 2]])
def test_clips_that_are_missing_or_there_twice(
    small_bundle: Path, tokens: Made, tmp_path: Path, order: list[int]
) -> None:
    holey = joined([tokens(40, "pad")], tmp_path / "holey.npz", order)
    with pytest.raises(InputError, match="don't follow one another"):
        detokenize(small_bundle, holey, output=tmp_path / "out.mkv")
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("rate", ["fast", "1/0"])
def test_a_rate_that_is_no_number(
    small_bundle: Path, tokens: Made, tmp_path: Path, rate: str
) -> None:
    odd = joined([tokens(17, "drop")], tmp_path / "odd.npz", [0], rate=np.array([rate]))
    with pytest.raises(InputError, match=f"frame rate that is no number: found {rate}"):
        detokenize(small_bundle, odd, output=tmp_path / "out.mkv")


def test_a_video_that_does_not_say_its_rate(
    small_bundle: Path, tokens: Made, tmp_path: Path
) -> None:
    silent = joined([tokens(17, "drop", 12)], tmp_path / "odd.npz", [0], rate=np.array([""]))
    detokenize(small_bundle, silent, output=tmp_path / "out.mkv")
    assert decoded(tmp_path / "out.mkv")[1] == 25


def test_frames_that_no_decoder_gives_back(small_bundle: Path, tmp_path: Path) -> None:
    """Clips of 16 frames come back as 13."""
    video = write_video(tmp_path / "walk.mkv", pictures(32, 32, 32))
    style = RenderStyle(frames=16, height=32, width=32)
    tokenize(small_bundle, video, output=tmp_path / "tokens.npz", style=style)
    outcome = detokenize(small_bundle, tmp_path / "tokens.npz", output=tmp_path / "out.mkv")
    assert decoded(tmp_path / "out.mkv")[0].shape == (26, 32, 32, 3)
    assert outcome.facts["warning"].startswith("6 frames of the video are missing")


def test_sizes_that_are_no_multiple_of_a_token(small_bundle: Path, tmp_path: Path) -> None:
    """What a token covers beyond the last row and column is cut off again."""
    video = write_video(tmp_path / "walk.mkv", pictures(5, 36, 50))
    style = RenderStyle(frames=5, height=36, width=50)
    tokenize(small_bundle, video, output=tmp_path / "tokens.npz", style=style)
    assert read_tokens(tmp_path / "tokens.npz").info.grid == (2, 5, 7)
    detokenize(small_bundle, tmp_path / "tokens.npz", output=tmp_path / "out.mkv")
    assert decoded(tmp_path / "out.mkv")[0].shape == (5, 36, 50, 3)
