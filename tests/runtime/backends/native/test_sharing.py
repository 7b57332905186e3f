"""Shared backgrounds: for any drawing, latents equal those of whole maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_runtime.backends.native.cpu import sharing
from magvit_runtime.backends.native.cpu.executor import CpuExecutor
from magvit_runtime.backends.native.cpu.sharing import Sharing, background_color, plan_sharing
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.backends.native.program import Program
from magvit_runtime.bundle.onnx_file import read_graph
from magvit_runtime.clips.trajectories import DEFAULT_STYLE, Trajectory, render

Clip = NDArray[np.uint8]

OUTPUTS = ("ids", "latents")
TOLERANCE = 1e-4
RED, GREEN = (200, 30, 30), (30, 180, 60)


@pytest.fixture(scope="module")
def program(small_bundle: Path) -> Program:
    return lower(read_graph(small_bundle / "encode.fp32.onnx"))


@pytest.fixture(scope="module")
def encoder(program: Program) -> Iterator[CpuExecutor]:
    encoder = CpuExecutor(program)
    yield encoder
    encoder.close()


def blank(sizes: tuple[int, int, int] = (5, 48, 64), color: object = 0) -> Clip:
    return np.full((*sizes, 3), color, np.uint8)


def noise(sizes: tuple[int, int, int] = (5, 48, 64)) -> Clip:
    return np.random.default_rng(3).integers(0, 256, (*sizes, 3), np.uint8)


def plan_of(program: Program, clip: Clip) -> Mapping[str, Sharing]:
    return plan_sharing(program, program.steps[0].output, clip, background_color(clip))


def drawn(*parts: object, clip: Clip | None = None, color: object = 255) -> Clip:
    """A clip with boxes: slices of frames, rows and columns."""
    clip = blank() if clip is None else clip
    for part in parts:
        clip[part] = color
    return clip


ALL = slice(None)
BORDERS = {
    "top": np.s_[2:, :1, 9:30],
    "bottom": np.s_[2:, -1:, 9:30],
    "left": np.s_[2:, 9:30, :1],
    "right": np.s_[2:, 9:30, -1:],
    "top left": np.s_[1:, :2, :2],
    "top right": np.s_[1:, :2, -2:],
    "bottom left": np.s_[1:, -2:, :2],
    "bottom right": np.s_[1:, -2:, -2:],
}
BOX = np.s_[1:, 20:24, 30:33]
CLIPS: dict[str, Clip] = {
    "empty": blank(),
    "grey": blank(color=128),
    **{f"stroke at the {name}": drawn(box) for name, box in BORDERS.items()},
    "flash": drawn(np.s_[2:3, 20:23, 30:33]),
    "flash of one pixel in the corner": drawn(np.s_[2:3, :1, :1]),
    "first frame only": drawn(np.s_[:1, 20:23, 30:33]),
    "last frame only": drawn(np.s_[-1:, 20:23, 30:33]),
    "coloured background": drawn(BOX, clip=blank(color=RED), color=GREEN),
    "black on white": drawn(BOX, clip=blank(color=255), color=0),
    "two objects": drawn(np.s_[:, 5:8, 5:8], np.s_[3:, 40:44, 50:60]),
    "background on the drawing": drawn(BOX, np.s_[2:, 21:23, 31:32], color=RED),
    "half of the border is drawn over": drawn(np.s_[:, :, :2], np.s_[:, :2, :20], clip=blank()),
    "one frame": drawn(np.s_[:, 9:12, 9:12], clip=blank((1, 48, 64))),
    "four frames": drawn(np.s_[1:, 9:12, 9:12], clip=blank((4, 48, 64))),
    "seventeen frames": drawn(np.s_[11:, 9:12, 9:12], clip=blank((17, 48, 64))),
    "odd sizes": drawn(np.s_[2:, 11:17, 29:31], clip=blank((7, 45, 61))),
    "high and narrow": drawn(np.s_[2:, 70:75, 9:11], clip=blank((5, 129, 23))),
    "large and empty": blank((2, 136, 200)),
    "low and wide": drawn(np.s_[2:, 9:11, 70:75], clip=blank((5, 23, 129))),
}


@pytest.fixture
def latents(
    encoder: CpuExecutor, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Clip, float], NDArray[np.float32]]:
    """Latents of a clip where maps share up to a given share of their tiles."""

    def run(clip: Clip, worth: float) -> NDArray[np.float32]:
        monkeypatch.setattr(sharing, "WORTH_SHARING", worth)
        (found,) = encoder.run({"frames": clip[None]}, ["latents"])
        return found

    return run


NEVER, AS_USUAL, WHEREVER_IT_CAN = 0.0, sharing.WORTH_SHARING, np.inf


@pytest.mark.parametrize("name", CLIPS)
def test_latents_are_those_of_whole_maps(
    latents: Callable[[Clip, float], NDArray[np.float32]], program: Program, name: str
) -> None:
    clip = CLIPS[name]
    whole = latents(clip, NEVER)
    np.testing.assert_allclose(latents(clip, AS_USUAL), whole, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(latents(clip, WHEREVER_IT_CAN), whole, rtol=0, atol=TOLERANCE)
    # The computation really was another one.
    plan = plan_of(program, clip)
    assert plan.keys() == {step.output for step in program.steps[:-2]}


def test_noise_shares_nothing_and_stays_right_where_it_is_made_to(
    latents: Callable[[Clip, float], NDArray[np.float32]], program: Program
) -> None:
    clip = noise()
    assert plan_of(program, clip) == {}
    whole = latents(clip, NEVER)
    np.testing.assert_allclose(latents(clip, WHEREVER_IT_CAN), whole, rtol=0, atol=TOLERANCE)


def test_rendered_trajectories_share_most_of_the_large_maps(program: Program) -> None:
    t = np.linspace(0, 1, 30)
    spiral = Trajectory("spiral", np.stack([t * np.cos(9 * t), t * np.sin(9 * t)], 1) / 2, t)
    (clip,) = render([spiral], DEFAULT_STYLE)
    plan = plan_of(program, clip)
    assert plan[program.convs[0].output].share < 0.5


def test_batches_mix_clips_of_any_kind(encoder: CpuExecutor) -> None:
    clips = np.stack([blank(), noise(), drawn(BOX)])
    ids, latents = encoder.run({"frames": clips}, OUTPUTS)
    for i, clip in enumerate(clips):
        alone_ids, alone = encoder.run({"frames": clip[None]}, OUTPUTS)
        np.testing.assert_array_equal(latents[i], alone[0])
        np.testing.assert_array_equal(ids[i], alone_ids[0])


@pytest.mark.parametrize("name", ["coloured background", "half of the border is drawn over"])
def test_the_background_is_what_most_of_the_border_shows(name: str) -> None:
    expected = RED if name == "coloured background" else (0, 0, 0)
    assert tuple(background_color(CLIPS[name])) == expected


def test_each_pixel_is_counted_once(program: Program) -> None:
    """Reached and unreached pixels always add up to the whole map."""
    for clip in CLIPS.values():
        for shared in plan_of(program, clip).values():
            frames, height, width = shared.sizes
            first = np.repeat(np.repeat(shared.first_frames, 4, axis=0), 4, axis=1)
            own = (frames - first[:height, :width].astype(int)).sum()
            assert shared.counts().sum() + own == frames * height * width
