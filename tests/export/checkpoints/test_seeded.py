"""Seeded weights against the check values that came with the golden fixtures."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from seeded_checkpoints import golden

from magvit_export.checkpoints.keys import ema_name
from magvit_export.checkpoints.seeded import seeded_array, seeded_state

# Name, raw key, shape and the first three elements.
CHECK_VALUES = [
    ("encoder.conv_in.conv_1.weight", (32, 3, 3, 3, 3), (0.1810175, -0.006763728, -0.0260218)),
    ("encoder.conv_out.conv_1.weight", (18, 128, 1, 1, 1), (-0.005170849, 0.3183284, -0.3763714)),
    ("encoder.norm_out.weight", (128,), (0.968112, 0.9934791, 0.7523874)),
    ("decoder.adaptive.0.gamma.bias", (64,), (0.01668061, 0.02671167, -0.05556499)),
]
EMA_CHECK_VALUES = [
    ("encoder.conv_in.conv_1.weight", (32, 3, 3, 3, 3), (0.0584617, -0.1463143, -0.08950467)),
    ("encoder.conv_out.conv_1.weight", (18, 128, 1, 1, 1), (-0.08218225, -0.04103953, -0.5970462)),
    ("encoder.norm_out.weight", (128,), (0.9268512, 1.145609, 1.367174)),
    ("decoder.adaptive.0.gamma.bias", (64,), (-0.05617967, 0.007199863, -0.05822395)),
]


@pytest.mark.parametrize(("key", "shape", "first"), CHECK_VALUES)
def test_raw_weights(key: str, shape: tuple[int, ...], first: tuple[float, ...]) -> None:
    array = seeded_array(key, shape)
    assert array.dtype == np.float32
    assert array.shape == shape
    np.testing.assert_allclose(array.reshape(-1)[:3], first, rtol=5e-7)


@pytest.mark.parametrize(("key", "shape", "first"), EMA_CHECK_VALUES)
def test_ema_weights(key: str, shape: tuple[int, ...], first: tuple[float, ...]) -> None:
    array = seeded_array(key, shape, name=ema_name(key))
    np.testing.assert_allclose(array.reshape(-1)[:3], first, rtol=5e-7)


def weights_crc32(shapes: Mapping[str, list[int]], variant: str) -> int:
    crc = 0
    for key, shape in shapes.items():
        name = ema_name(key) if variant == "ema" else key
        crc = zlib.crc32(seeded_array(key, tuple(shape), name=name).tobytes(), crc)
    return crc


@pytest.mark.parametrize("variant", ["raw", "ema"])
def test_all_weights_of_the_small_video_model(variant: str) -> None:
    meta = json.loads(str(golden("video_small")["meta"]))
    expected = meta["stats"][f"t17_64x64.{variant}"]["weights_crc32"]
    assert weights_crc32(meta["key_shapes"], variant) == expected


@pytest.mark.parametrize("variant", ["raw", "ema"])
@pytest.mark.parametrize("topology", ["16x_z18", "16x_z14", "8x_z18"])
def test_all_weights_of_the_image_models(topology: str, variant: str) -> None:
    meta = json.loads(str(golden("image_small")["meta"]))
    expected = meta["stats"][f"{topology}.{variant}"]["weights_crc32"]
    assert weights_crc32(meta["key_shapes"][topology], variant) == expected


def test_a_seed_chooses_other_weights_and_the_same_ones_each_time() -> None:
    shapes = {"encoder.conv_in.weight": (8, 3, 3, 3), "encoder.norm_out.bias": (8,)}
    default, one, again, two = (seeded_state(shapes, seed) for seed in (None, 1, 1, 2))
    for key in shapes:
        assert torch.equal(one[key], again[key])
        assert not torch.equal(one[key], two[key])
        assert not torch.equal(one[key], default[key])
