"""Encoders with attention and a codebook, in the native backend and in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto
from runtime.backends.native.graphs import FRAMES, Encoder

from magvit_runtime import BackendError
from magvit_runtime.backends.native.attention import Attention
from magvit_runtime.backends.native.codebook import CodebookSearch
from magvit_runtime.backends.native.cpu.session import CpuSession
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.bundle.onnx_file import read_graph

ROWS = 700


def block(encoder: Encoder, x: str) -> str:
    """Attention after a GroupNorm, added to what it read."""
    channels = encoder.channels[x]
    normalized = encoder.norm(x, 4, "GroupNorm")
    queries, keys, values = (encoder.conv(normalized, channels, (1, 1)) for _ in "qkv")
    mixed = encoder.attention(queries, keys, values)
    return encoder.sum(x, encoder.conv(mixed, channels, (1, 1)))


def encoder_with_attention(channels: int, latents: int, seed: int) -> tuple[Encoder, str]:
    """Zeros at the bottom and right alone before the stride; every conv has a bias."""
    encoder = Encoder(is_video=False, random=np.random.default_rng(seed))
    x = encoder.conv(encoder.pixels(), channels, (3, 3))
    x = encoder.conv(x, channels, (3, 3), stride=(2, 2), pads=(0, 0, 1, 1))
    x = block(encoder, block(encoder, x))
    return encoder, encoder.conv(encoder.norm(x, 4), latents, (3, 3))


def save(model: ModelProto, folder: Path) -> Path:
    path = folder / "encoder.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("channels", "latents", "height", "width"),
    [(32, 16, 16, 24), (48, 20, 9, 7), (20, 3, 5, 31), (64, 64, 2, 2)],
)
def test_ids_margins_and_latents_are_those_of_onnxruntime(
    tmp_path: Path, channels: int, latents: int, height: int, width: int, threads: int
) -> None:
    encoder, name = encoder_with_attention(channels, latents, channels)
    frames = encoder.random.integers(0, 256, (3, height, width, 3), np.uint8)
    path = save(encoder.model(name, ROWS), tmp_path)
    outputs = ["ids", "margins", name]
    expected = onnxruntime.InferenceSession(path).run(outputs, {FRAMES: frames})
    with CpuSession(path, precision="fp32", threads=threads, reason="") as session:
        found = session.run({FRAMES: frames}, outputs)
        # Memory is used again; nothing of the run before is left in it.
        again = session.run({FRAMES: frames}, outputs)
    for one, other, wanted in zip(found, again, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert (one.dtype, one.shape) == (wanted.dtype, wanted.shape)
    ids, margins, z = found
    assert ids.shape == (3, height // 2, width // 2)
    np.testing.assert_allclose(z, expected[2], rtol=0, atol=1e-4 * np.abs(expected[2]).max())
    np.testing.assert_allclose(margins, expected[1], rtol=0, atol=1e-3)
    clear = expected[1] > 1e-2
    np.testing.assert_array_equal(ids[clear], expected[0][clear])


def test_attention_and_the_search_are_steps(tmp_path: Path) -> None:
    encoder, name = encoder_with_attention(32, 16, 0)
    program = lower(read_graph(save(encoder.model(name, ROWS), tmp_path)))
    assert sum(isinstance(step, Attention) for step in program.steps) == 2
    search = program.steps[-1]
    assert isinstance(search, CodebookSearch)
    assert (search.input, search.output, search.margins) == (name, "ids", "margins")
    assert search.codebook.shape == (ROWS, 16)
    halving = program.convs[1]
    assert (halving.pads_before, halving.pads_after) == ((0, 0, 0), (0, 1, 1))


def attention_of_a_norm(encoder: Encoder, x: str) -> str:
    normalized = encoder.norm(x, 4, "GroupNorm")
    return encoder.conv(encoder.attention(normalized, x, x), 16, (1, 1))


def attention_of_other_channels(encoder: Encoder, x: str) -> str:
    keys = encoder.conv(x, 24, (1, 1))
    return encoder.conv(encoder.attention(x, keys, x), 16, (1, 1))


def norm_of_attention(encoder: Encoder, x: str) -> str:
    """Only convs leave moments."""
    return encoder.conv(encoder.norm(encoder.attention(x, x, x), 4), 16, (1, 1))


@pytest.mark.parametrize(
    "spoil", [attention_of_a_norm, attention_of_other_channels, norm_of_attention]
)
def test_what_has_no_place_is_named(tmp_path: Path, spoil: Callable[[Encoder, str], str]) -> None:
    encoder = Encoder(is_video=False, random=np.random.default_rng(0))
    latents = spoil(encoder, encoder.conv(encoder.pixels(), 32, (3, 3)))
    with pytest.raises(BackendError, match=r"can't run the node \w+/node \(magvit\."):
        lower(read_graph(save(encoder.model(latents, ROWS), tmp_path)))


def test_a_codebook_of_another_width_is_named(tmp_path: Path) -> None:
    encoder, name = encoder_with_attention(32, 16, 0)
    encoder.channels[name] = 17
    with pytest.raises(BackendError, match=r"ids/node \(magvit\.CodebookArgmax\)"):
        lower(read_graph(save(encoder.model(name, ROWS), tmp_path)))


def test_keys_of_another_size_are_named(tmp_path: Path) -> None:
    encoder = Encoder(is_video=False, random=np.random.default_rng(0))
    x = encoder.conv(encoder.pixels(), 32, (3, 3))
    keys = encoder.conv(x, 32, (3, 3), stride=(2, 2))
    latents = encoder.conv(encoder.attention(x, keys, x), 16, (1, 1))
    path = save(encoder.model(latents, ROWS), tmp_path)
    with (
        CpuSession(path, precision="fp32", threads=1, reason="") as session,
        pytest.raises(BackendError, match="attention takes maps of one shape"),
    ):
        session.run({FRAMES: np.zeros((1, 8, 8, 3), np.uint8)}, ["ids"])
