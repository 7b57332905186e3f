"""How token ids enter the classifier."""

from __future__ import annotations

import pytest
import torch

from magvit_export.training.classifier import (
    ExportedClassifier,
    TrajectoryClassifier,
)

GRID = (2, 3, 4)
EMBEDDINGS = ("bits", "factorized", "table")


def classifier(embedding: str, vocab_size: int = 1024, **more: int) -> TrajectoryClassifier:
    torch.manual_seed(0)
    return TrajectoryClassifier(vocab_size, embedding, num_classes=5, grid=GRID, **more).eval()


def random_ids(vocab_size: int = 1024) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(vocab_size, (3, *GRID), generator=random, dtype=torch.int32)
    ids.view(-1)[:2] = torch.tensor([0, vocab_size - 1])
    return ids


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("vocab_size", [4, 1024, 2**18])
@torch.no_grad()
def test_probabilities_of_every_id(embedding: str, vocab_size: int) -> None:
    model = ExportedClassifier(classifier(embedding, vocab_size, width=3))
    probabilities = model(random_ids(vocab_size))
    assert probabilities.shape == (3, 5)
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(3))


@torch.no_grad()
def test_bits_enter_as_signs_least_significant_first() -> None:
    """Untrained, the map is the identity, so features are the bits themselves."""
    model = classifier("bits", vocab_size=2**18, width=18)
    ids = torch.zeros(1, *GRID, dtype=torch.int32)
    ids[0, 0, 0, 0] = 0b101
    ids[0, 1, 2, 3] = 2**18 - 1
    features = model.features(ids).view(24, 18)
    assert features[0].tolist() == [1, -1, 1] + [-1] * 15
    assert features[23].tolist() == [1] * 18
    assert features[1].tolist() == [-1] * 18


@torch.no_grad()
def test_factorized_ids_have_a_row_for_the_low_and_one_for_the_high_bits() -> None:
    model = classifier("factorized", vocab_size=2**18)
    assert (model.embedding.pre.num_embeddings, model.embedding.post.num_embeddings) == (64, 4096)
    ids = random_ids(2**18)
    expected = model.embedding.pre(ids % 64) + model.embedding.post(ids // 64)
    torch.testing.assert_close(model.features(ids), expected.flatten(1))


@torch.no_grad()
def test_a_table_has_a_row_an_id() -> None:
    model = classifier("table")
    ids = random_ids()
    torch.testing.assert_close(model.features(ids), model.embedding.weight[ids].flatten(1))


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@torch.no_grad()
def test_the_place_of_a_token_matters(embedding: str) -> None:
    model = classifier(embedding)
    ids = random_ids()
    assert not torch.allclose(model(ids), model(ids.flip(3)))


@pytest.mark.parametrize("vocab_size", [0, 1, 2, 3, 1000])
def test_a_vocabulary_that_is_no_power_of_two(vocab_size: int) -> None:
    with pytest.raises(ValueError, match=f"power of two from 4 on, not {vocab_size}"):
        classifier("bits", vocab_size)
