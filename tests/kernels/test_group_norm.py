"""GroupNorm and GroupNormSiLU on the CPU against float64 NumPy and against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from magvit_runtime.errors import InputError
from magvit_runtime.native_libraries.operators import group_norm, group_norm_silu

# Positions of one clip of the video encoder's first level.
FULL_SIZE = (17, 128, 128)


def reference(
    x: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    num_groups: int = 32,
    epsilon: float = 1e-6,
) -> np.ndarray:
    """GroupNorm in float64."""
    grouped = x.astype(np.float64).reshape(x.shape[0], num_groups, -1)
    centered = grouped - grouped.mean(-1, keepdims=True)
    variance = (centered**2).mean(-1, keepdims=True)
    y = (centered / np.sqrt(variance + epsilon)).reshape(x.shape)
    if weight is not None and bias is not None:
        ones = (1,) * (x.ndim - 2)
        y = y * weight.reshape(-1, x.shape[1], *ones) + bias.reshape(-1, x.shape[1], *ones)
    return y


def silu(y: np.ndarray) -> np.ndarray:
    return y / (1 + np.exp(-y))


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def channels_last(x: np.ndarray) -> np.ndarray:
    """The same array, its memory in the order N, ..., C."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def dot_on_flat_background(shape: tuple[int, ...], background: float) -> np.ndarray:
    """A constant with a small bright patch in each channel, as in rendered trajectories."""
    x = np.full(shape, background, np.float32)
    x[..., 40:46, 60:66] += np.random.default_rng(0).standard_normal((*shape[:-2], 6, 6))
    return x


@pytest.mark.parametrize("layout", [np.asarray, channels_last])
@pytest.mark.parametrize("background", [0.0, -0.1, 0.7371, 12.3])
def test_flat_background_at_full_size(layout: type, background: float) -> None:
    x = dot_on_flat_background((1, 8, *FULL_SIZE), background)
    found = group_norm(layout(x), num_groups=2)
    assert relative_error(found, reference(x, num_groups=2)) <= 1e-6


@pytest.mark.parametrize("layout", [np.asarray, channels_last])
def test_noise_at_full_size(layout: type) -> None:
    x = np.random.default_rng(1).standard_normal((1, 8, *FULL_SIZE), np.float32)
    assert relative_error(group_norm(layout(x), num_groups=2), reference(x, num_groups=2)) <= 1e-6


@pytest.mark.parametrize("layout", [np.asarray, channels_last])
def test_a_constant_becomes_zero_exactly(layout: type) -> None:
    x = np.full((1, 32, *FULL_SIZE[1:]), 0.7371, np.float32)
    assert not group_norm(layout(x)).any()


@pytest.mark.parametrize("layout", [np.asarray, channels_last])
@pytest.mark.parametrize("mean", [1e2, 1e3, 1e4])
def test_mean_far_above_the_deviation(layout: type, mean: float) -> None:
    """The error is that of the mean's own rounding; naive sums of squares lose every digit."""
    x = (mean + np.random.default_rng(2).standard_normal((1, 8, *FULL_SIZE))).astype(np.float32)
    error = np.abs(group_norm(layout(x), num_groups=2) - reference(x, num_groups=2)).max()
    assert error <= 1.5 * mean * np.finfo(np.float32).eps


@pytest.mark.parametrize("layout", [np.asarray, channels_last])
def test_one_huge_element_spoils_nothing_else(layout: type) -> None:
    """No element may serve as an offset for the others, not even the first."""
    x = np.random.default_rng(3).standard_normal((1, 8, 17, 32, 32)).astype(np.float32)
    x[0, ::4, 0, 0, 0] = 1e4
    assert relative_error(group_norm(layout(x), num_groups=2), reference(x, num_groups=2)) <= 1e-6


SHAPES = [
    ((2, 64, 3), 32),
    ((1, 96, 7, 5), 32),
    ((3, 33, 1, 9), 11),
    ((2, 32, 5, 16, 16), 32),
    ((1, 20, 3, 5, 7), 4),
    ((2, 24, 2, 3, 11), 1),
    ((1, 6, 1), 2),
]


@pytest.mark.parametrize("layout", [np.asarray, channels_last])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("affine", ["none", "channel", "sample"])
@pytest.mark.parametrize(("shape", "num_groups"), SHAPES)
def test_shapes_types_and_affine_maps(
    shape: tuple[int, ...], num_groups: int, affine: str, dtype: type, layout: type
) -> None:
    rng = np.random.default_rng(4)
    x = (3 * rng.standard_normal(shape) + 1).astype(dtype)
    size = {"none": None, "channel": shape[1:2], "sample": shape[:2]}[affine]
    weight, bias = (
        (None, None) if size is None else rng.standard_normal((2, *size)).astype(np.float32)
    )
    expected = reference(x, weight, bias, num_groups, 1e-5)
    tolerance = 1e-3 if dtype == np.float16 else 1e-6
    for found, wanted in (
        (group_norm(layout(x), weight, bias, num_groups, 1e-5), expected),
        (group_norm_silu(layout(x), weight, bias, num_groups, 1e-5), silu(expected)),
    ):
        assert found.dtype == dtype
        assert found.shape == shape
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=2 * tolerance)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_same_as_pytorch(dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    torch.manual_seed(0)
    x = torch.randn(2, 64, 3, 17, 19, dtype=getattr(torch, dtype))
    weight, bias = torch.randn(64), torch.randn(64)
    y = torch.nn.functional.group_norm(x.double(), 32, weight.double(), bias.double(), 1e-6)
    expected = torch.nn.functional.silu(y).numpy()
    found = group_norm_silu(x.numpy(), weight.numpy(), bias.numpy())
    tolerance = 1e-3 if dtype == "float16" else 2e-6
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_fp16_values_whose_squares_overflow_fp16() -> None:
    x = (3e4 * np.random.default_rng(5).uniform(-1, 1, (1, 32, 64, 64))).astype(np.float16)
    np.testing.assert_allclose(group_norm(x), reference(x), rtol=1e-3, atol=1e-3)


def test_silu_over_its_whole_range() -> None:
    """An affine map without slope sets SiLU's argument, one argument per channel."""
    arguments = np.concatenate([np.linspace(-120, 120, 4001), [-0.0, 1e-30, -1e-30]])
    bias = arguments.astype(np.float32)
    x = np.random.default_rng(6).standard_normal((1, bias.size, 2)).astype(np.float32)
    found = group_norm_silu(x, np.zeros_like(bias), bias, num_groups=1)
    expected = silu(bias.astype(np.float64))[None, :, None]
    np.testing.assert_allclose(found, np.broadcast_to(expected, x.shape), rtol=1e-6, atol=1e-30)


def test_memory_layout_is_kept() -> None:
    x = np.random.default_rng(7).standard_normal((2, 32, 5, 6, 7)).astype(np.float32)
    found = group_norm(channels_last(x))
    assert found.strides == channels_last(x).strides
    strided = np.repeat(x, 2, axis=-1)[..., ::2]
    np.testing.assert_array_equal(group_norm(strided), group_norm(x))


def test_threads_change_nothing() -> None:
    x = np.random.default_rng(8).standard_normal((1, 32, 9, 64, 64)).astype(np.float32)
    for layout in (np.asarray, channels_last):
        one = group_norm_silu(layout(x), threads=1)
        np.testing.assert_array_equal(one, group_norm_silu(layout(x), threads=7))


@pytest.mark.parametrize(
    ("shape", "weight", "bias", "num_groups", "epsilon", "message"),
    [
        ((1, 33, 4), None, None, 32, 1e-6, "divide the number of channels"),
        ((1, 32, 4), None, None, 0, 1e-6, "groups must be positive"),
        ((1, 32, 4), None, None, 32, -1.0, "Epsilon must be finite"),
        ((1, 32, 4), np.ones(32), None, 32, 1e-6, "expected both or neither"),
        (
            (1, 32, 4),
            np.ones(16),
            np.ones(16),
            32,
            1e-6,
            r"both \(32,\) or both \(1, 32\)",
        ),
        ((1, 32), None, None, 32, 1e-6, "rank 3 to 5"),
    ],
)
def test_what_does_not_fit_is_refused(
    shape: tuple[int, ...],
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    num_groups: int,
    epsilon: float,
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        group_norm(np.zeros(shape, np.float32), weight, bias, num_groups, epsilon)
