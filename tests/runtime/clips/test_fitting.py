"""Frames of any size are resized and cropped as transformers' processors do it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from magvit_export.families.processor import Processor, processor_of
from magvit_export.layers.pixels import standardize_pixels
from magvit_runtime.clips.fitting import center_crop, fitted, resized_sizes
from magvit_runtime.errors import InputError

# Above, below and at the target; odd; wide, high; both edges on different sides of the crop.
SIZES = [(64, 64), (128, 96), (97, 131), (33, 45), (17, 5), (3, 64), (64, 65), (63, 64), (240, 31)]
RULES = {
    "shorter edge": {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
    "a number": {"size": 72, "crop_size": 63},
    "height and width": {"size": {"height": 48, "width": 80}, "do_center_crop": False},
    "smaller than the crop": {"size": 40, "crop_size": {"height": 64, "width": 51}},
    "crop alone": {"do_resize": False, "crop_size": 64},
    "nearest": {"size": 64, "crop_size": 64, "resample": 0},
    "not rescaled": {"size": 64, "crop_size": 64, "do_rescale": False, "image_mean": 0.5},
    "not normalised": {"size": 64, "crop_size": 64, "do_normalize": False},
}
KINDS = {
    "VideoMAEImageProcessorPil": VideoMAEImageProcessorPil,
    "CLIPImageProcessorPil": CLIPImageProcessorPil,
}


def image(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    shape = (height, width, channels)
    return np.random.default_rng(height * width).integers(0, 256, shape, np.uint8)


def normalized(frames: NDArray[np.uint8], rules: Processor) -> NDArray[np.float32]:
    """As the graph does it: [N, 3, H, W]."""
    pixels = torch.from_numpy(frames)
    found: NDArray[np.float32] = standardize_pixels(
        pixels, torch.float32, rules.scale, rules.mean, rules.std
    ).numpy()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_are_those_of_transformers(
    kind: str, rules: dict[str, object], size: tuple[int, int]
) -> None:
    processor = processor_of(kind, rules, "a test")
    pixels = image(*size)
    ours = normalized(fitted(pixels[None], processor.rules()), processor)
    given = [pixels] if kind.startswith("CLIP") else [[pixels]]
    theirs = KINDS[kind].from_dict(rules)(
        given, return_tensors="np", input_data_format="channels_last"
    )["pixel_values"]
    scale = max(1.0, float(np.abs(theirs).max()))
    np.testing.assert_allclose(ours, theirs.reshape(ours.shape), atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize(("kind", "mode"), [(0, "bilinear"), (1, "bicubic")])
@pytest.mark.parametrize("size", [(64, 64), (128, 96), (97, 131), (33, 45), (240, 75)], ids=str)
def test_torchvision_differs_by_two_levels_at_most(
    kind: int, mode: str, size: tuple[int, int]
) -> None:
    """Its processors resize bytes by torch's antialiased interpolation, without Pillow."""
    height, width = size
    # Smooth, as photographs are: noise has no right answer between its pixels.
    y, x = np.mgrid[:height, :width] / 9
    waves = np.stack([np.sin(y + c) * np.cos(x - c) for c in range(3)], axis=-1)
    pixels = np.round(127.5 + 127.5 * waves).astype(np.uint8)
    rules = processor_of(list(KINDS)[kind], {"size": 64, "do_center_crop": False}, "a test").rules()
    ours = fitted(pixels[None], rules)[0].astype(int)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(pixels).permute(2, 0, 1)[None],
        size=ours.shape[:2],
        mode=mode,
        antialias=True,
    )[0].permute(1, 2, 0)
    assert np.abs(ours - theirs.numpy().astype(int)).max() <= 2


def test_clips_are_fitted_frame_by_frame() -> None:
    processor = processor_of("VideoMAEImageProcessorPil", RULES["shorter edge"], "a test")
    clips = np.stack([[image(40 + 0 * i, 90) + i for i in range(5)] for _ in range(2)]).astype("u1")
    found = fitted(clips, processor.rules(frames=3))
    assert found.shape == (2, 3, 64, 64, 3)
    np.testing.assert_array_equal(found[:, 1], fitted(clips[:, 2], processor.rules()))


def test_what_fits_already_is_left_alone() -> None:
    rules = processor_of("CLIPImageProcessorPil", RULES["shorter edge"], "a test").rules()
    pixels = image(64, 64)[None]
    assert np.shares_memory(fitted(pixels, rules), pixels)


def test_the_longer_edge_is_rounded_down() -> None:
    rule = processor_of("CLIPImageProcessorPil", {"size": 224}, "a test").resizing
    assert rule is not None
    assert resized_sizes(480, 641, rule) == (224, 299)  # 299.13
    assert resized_sizes(1000, 333, rule) == (672, 224)  # 672.67


def test_black_is_added_around_what_is_too_small() -> None:
    found = center_crop(np.full((1, 1, 3), 9, np.uint8), (4, 2))
    assert found[..., 0].tolist() == [[0, 0], [0, 0], [0, 9], [0, 0]]


def test_a_clip_that_would_fill_the_memory_is_refused() -> None:
    rules = processor_of("CLIPImageProcessorPil", {"size": 224}, "a test").rules()
    with pytest.raises(InputError, match=r"too narrow.*found 1x300, which would become 224x67200"):
        fitted(image(1, 300)[None], rules)
