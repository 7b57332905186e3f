"""What scripts import of the export side."""

from pathlib import Path

import numpy as np
import pytest

from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.models import empty_tokenizer
from magvit_export.pytorch_reference import pytorch_reference
from magvit_export.seeded import seeded_state
from magvit_runtime import Tokenizer, open_bundle


@pytest.mark.parametrize("shape", [(1, 2, 9, 17, 3), (2, 5, 8, 8, 3)])
def test_it_gives_the_tokenizers_ids_and_latents(tiny_bundle: Path, shape: tuple[int, ...]) -> None:
    clips = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    reference = pytorch_reference(open_bundle(tiny_bundle))
    latents = reference.latents(clips)
    with Tokenizer.open(tiny_bundle) as tokenizer:
        assert latents.dtype == np.float64
        np.testing.assert_allclose(tokenizer.latents(clips), latents, atol=3e-4)
        sure = np.abs(latents).min(axis=1) > 3e-4
        assert sure.mean() > 0.9
        np.testing.assert_array_equal(tokenizer(clips)[sure], reference(clips)[sure])


def test_a_script_makes_a_whole_seeded_model() -> None:
    model = empty_tokenizer(TokenizerConfig(ch=32, num_res_blocks=1))
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(seeded_state(shapes), assign=True)
    assert not any(parameter.is_meta for parameter in model.parameters())
