"""The autoregressive transformer in PyTorch beside the original implementation's values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from seeded_checkpoints import SMALL_AR, golden, raw_tensors

from magvit_export.families.autoregressive.blocks import Cache
from magvit_export.families.autoregressive.config import AutoregressiveConfig
from magvit_export.families.autoregressive.rotary import rotary_table
from magvit_export.families.autoregressive.transformer import AutoregressiveModel, empty_model

GOLDEN = golden("ar_small")


@pytest.fixture
def model() -> AutoregressiveModel:
    model = empty_model(SMALL_AR)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(raw_tensors(shapes), assign=True)
    return model


def given() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(GOLDEN["cls"][:, 0]), torch.from_numpy(
        GOLDEN["pre"] + 64 * GOLDEN["post"]
    )


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-6), (torch.float32, 2e-5)])
@torch.inference_mode()
def test_logits_are_the_references(
    model: AutoregressiveModel, dtype: torch.dtype, most: float
) -> None:
    pre, post = model.to(dtype).logits(*given())
    np.testing.assert_allclose(pre, GOLDEN["logits_pre"], atol=most, rtol=0)
    np.testing.assert_allclose(post[..., :128], GOLDEN["logits_post_first128"], atol=most, rtol=0)
    np.testing.assert_allclose(post.logsumexp(-1), GOLDEN["logits_post_lse"], atol=most, rtol=0)
    np.testing.assert_array_equal(post.argmax(-1), GOLDEN["logits_post_argmax"])


@torch.inference_mode()
def test_a_position_after_the_other_with_a_cache_gives_the_same(
    model: AutoregressiveModel,
) -> None:
    classes, ids = given()
    expected, _ = model.double().logits(classes, ids)
    shape = (2, SMALL_AR.n_head, SMALL_AR.block_size, SMALL_AR.head_dim)
    # Rows of positions to come may hold anything.
    caches = [
        Cache(torch.full(shape, 7.0).double(), torch.full(shape, -9.0).double())
        for _ in model.transformer.spatial_blocks
    ]
    before = torch.zeros_like(ids[:, :1])
    for position in range(ids.shape[1]):
        at = torch.tensor(position)
        hidden, keys, values = model.transformer.context(classes, before, at, caches)
        for cache, k, v in zip(caches, keys, values, strict=True):
            cache.keys[:, :, position], cache.values[:, :, position] = k[:, :, 0], v[:, :, 0]
        pre, _ = model.transformer.subtokens(hidden[:, 0], ids[:, position] % 64)
        np.testing.assert_allclose(pre, expected[:, position], atol=1e-12, rtol=0)
        before = ids[:, position, None]


def test_the_rotary_table_is_the_references() -> None:
    np.testing.assert_array_equal(rotary_table(4, 16, 10000), GOLDEN["rope_table"])


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (AutoregressiveConfig(), 343e6),
        (
            AutoregressiveConfig(
                spatial_n_layer=36, factorized_n_layer=3, dim=1280, n_head=20, cond_dim=1280
            ),
            804e6,
        ),
        (
            AutoregressiveConfig(
                spatial_n_layer=48, factorized_n_layer=4, dim=1536, n_head=24, cond_dim=1536
            ),
            1.49e9,
        ),
    ],
)
def test_released_sizes_have_the_published_number_of_parameters(
    config: AutoregressiveConfig, parameters: float
) -> None:
    count = sum(parameter.numel() for parameter in empty_model(config).parameters())
    assert count == pytest.approx(parameters, rel=0.005)
