"""The simulation of docs/parity.md's precision ladder against bit patterns, PyTorch's own half
convs, and the exported float16 graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from measure_scripts import load_script
from numpy.typing import NDArray
from parity.simulated_precision import (
    RUNGS,
    Rounding,
    channels_last_group_norm,
    naive_group_norm,
    naive_sum,
    simulate_half,
    simulate_tf32,
    to_bf16,
    to_fp16,
    to_tf32,
    unrounded,
)
from seeded_checkpoints import TINY
from torch import Tensor, nn

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.families.magvit.encoder import Encoder
from magvit_export.families.magvit.family import FAMILY
from magvit_export.families.magvit.precision import set_precision
from magvit_export.families.magvit.tokenizer import ExportedEncoder
from magvit_export.layers.convs import CausalConv3d
from magvit_export.layers.group_norm import GroupNormSiLU, group_norm
from magvit_export.onnx.stages import StagedGraph
from magvit_runtime import Tokenizer
from magvit_runtime.clips.samples import verification_clips

ladder = load_script("precision_ladder")
climb, latents_of, seeded_encoder = ladder.climb, ladder.latents_of, ladder.seeded_encoder

INFINITY = float("inf")
LAYERS = 17
DRAWN = verification_clips((5, 32, 32, 3))[0]


@pytest.mark.parametrize(
    ("rounding", "value", "expected"),
    [
        (to_tf32, 1 + 2**-10, 1 + 2**-10),
        (to_tf32, 1 + 2**-11, 1 + 2**-10),  # A tie, away from zero.
        (to_tf32, -1 - 2**-11, -1 - 2**-10),
        (to_tf32, 1 + 2**-11 - 2**-20, 1),
        (to_tf32, 2 - 2**-12, 2),  # Into the next exponent.
        (to_tf32, 1e30, float.fromhex("0x1.94p+99")),  # float32's range, unlike float16's.
        (to_tf32, -INFINITY, -INFINITY),
        (to_fp16, 1 + 2**-11, 1),  # A tie, to even.
        (to_fp16, 1 + 3 * 2**-11, 1 + 2**-9),
        (to_fp16, 65519.0, 65504.0),
        (to_fp16, 65520.0, INFINITY),
        (to_fp16, 2**-24, 2**-24),  # The smallest subnormal.
        (to_fp16, 2**-25, 0),
        (to_bf16, 1 + 2**-8, 1),  # A tie, to even.
        (to_bf16, 1 + 3 * 2**-8, 1 + 2**-6),
        (to_bf16, 65520.0, 65536.0),
    ],
)
def test_roundings(rounding: Rounding, value: float, expected: float) -> None:
    assert rounding(torch.tensor([value])).item() == expected


def test_tf32_leaves_no_more_than_ten_bits() -> None:
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    bits = to_tf32(x).view(torch.int32)
    assert not (bits & 0x1FFF).any()
    assert (to_tf32(x) - x).abs().max() <= (x.abs() * 2**-11).max()
    assert to_tf32(torch.tensor([float("nan")])).isnan().all()


def test_naive_sums_lose_what_is_small() -> None:
    """Above 2^24 float32 has only even numbers, so adding 1 does nothing."""
    rows = np.ones((5000, 2), np.float32)
    rows[0, 0] = 2**24
    assert naive_sum(rows).tolist() == [2**24, 5000]
    assert rows[:, 0].sum(dtype=np.float64) == 2**24 + 4999


@pytest.mark.parametrize("norm", [naive_group_norm, channels_last_group_norm])
def test_norms_agree_where_sums_are_short(norm: Callable[..., Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 64, 3, 4, 5, generator=generator)
    weight, bias = torch.randn(2, 64, generator=generator)
    expected = group_norm(x, weight, bias)
    torch.testing.assert_close(norm(x, weight, bias, 32, 1e-6), expected, rtol=1e-5, atol=1e-5)


def tiny_encoder() -> Encoder:
    return seeded_encoder("trajectory-small", TINY)


def rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def test_where_nothing_is_rounded_it_is_the_plain_encoder() -> None:
    plain, simulated = tiny_encoder(), tiny_encoder()
    simulate_half(simulated, unrounded, unrounded)
    np.testing.assert_array_equal(latents_of(simulated, DRAWN), latents_of(plain, DRAWN))


def test_tf32_rounds_what_enters_a_conv_and_nothing_else() -> None:
    encoder = tiny_encoder()
    weight = to_tf32(encoder.conv_in.conv_1.weight).double()
    simulate_tf32(encoder)
    x = torch.rand(1, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    # One frame after two frames of zeros: only the last temporal tap counts.
    expected = F.conv2d(to_tf32(x)[:, :, 0].double(), weight[:, :, 2], padding=1)
    with torch.inference_mode():
        result = encoder.conv_in(x)[:, :, 0].double()
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)


Layers = dict[str, tuple[Tensor, Tensor]]


def layers_of(encoder: Encoder) -> Layers:
    """The input and output of each norm and conv on the drawn clip."""
    layers: Layers = {}

    def keep(name: str, _: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        layers[name] = inputs[0].float(), output.float()

    for name, module in encoder.named_modules():
        if isinstance(module, GroupNormSiLU | CausalConv3d):
            module.register_forward_hook(partial(keep, name))
    latents_of(encoder, DRAWN)
    return layers


def check_neighbours(ours: Tensor, expected: Tensor, name: str) -> None:
    """Sums in another order are sometimes rounded to the other neighbour, but never further."""
    difference = ours - expected
    assert (difference != 0).float().mean() < 0.01, name
    assert rms(difference.numpy()) < 1e-4 * rms(expected.numpy()), name


@pytest.mark.parametrize(
    ("dtype", "rounding", "residual"),
    [
        (torch.float16, to_fp16, torch.float16),
        (torch.float16, to_fp16, torch.float32),
        (torch.bfloat16, to_bf16, torch.bfloat16),
    ],
)
def test_half_is_what_half_weights_compute(
    dtype: torch.dtype, rounding: Rounding, residual: torch.dtype
) -> None:
    real, simulated = tiny_encoder(), tiny_encoder()
    set_precision(real, dtype, residual)
    simulate_half(simulated, rounding, unrounded if residual == torch.float32 else rounding)
    layers = layers_of(real)
    assert len(layers) == LAYERS
    for name, (x, expected) in layers.items():
        with torch.inference_mode():
            check_neighbours(simulated.get_submodule(name)(x), expected, name)
    # Each layer rounds the same; after all layers the errors have the same size.
    exact = latents_of(tiny_encoder().double(), DRAWN)
    errors = [rms(latents_of(encoder, DRAWN) - exact) for encoder in (simulated, real)]
    assert errors[0] == pytest.approx(errors[1], rel=0.25)


def test_half_is_what_the_exported_graph_computes(tmp_path: Path) -> None:
    export_model(
        find_model("trajectory-small"),
        tmp_path / "bundle",
        weights="seeded",
        roles=["encode"],
        config=TINY,
        precision="fp16",
    )
    simulated = tiny_encoder()
    simulate_half(simulated, to_fp16, to_fp16)
    cuts = FAMILY.roles["encode"].cuts
    assert cuts is not None
    modules = [path for path, _ in cuts(ExportedEncoder(simulated))]
    graph = StagedGraph(tmp_path / "bundle" / "encode.fp16.onnx", "fp16", modules)
    stages = {stage.module.removeprefix("encoder."): stage for stage in graph.stages}
    for name, (x, ours) in layers_of(simulated).items():
        stage = stages[name]
        (result,) = graph.run(stage, {stage.inputs[0]: x.numpy()})
        check_neighbours(ours, torch.from_numpy(result).float(), name)


def test_rungs_are_in_order() -> None:
    clips = np.stack([DRAWN, DRAWN[::-1]])
    agreements = climb("trajectory-small", clips)
    assert list(agreements) == list(RUNGS)
    accurate, channels_last, naive, tf32, residual, fp16, bf16 = agreements.values()
    assert accurate.passes("fp32")
    assert accurate.rms < channels_last.rms < tf32.rms
    assert accurate.rms < naive.rms < tf32.rms  # Of 20,000 values a group; a full clip has more.
    assert tf32.passes("tf32")
    assert residual.passes("fp16")
    assert fp16.passes("fp16")
    assert bf16.passes("bf16")
    assert residual.rms < fp16.rms < bf16.rms


def test_seeded_encoder_is_the_exported_one(small_bundle: Path) -> None:
    with Tokenizer.open(small_bundle) as tokenizer:
        expected = tokenizer.latents(DRAWN[None])
    np.testing.assert_allclose(
        latents_of(seeded_encoder("trajectory-small"), DRAWN), expected, rtol=0, atol=1e-4
    )
