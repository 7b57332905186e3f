"""Checkpoint files as Open-MAGVIT2 publishes them, with weights that key names generate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from magvit_export.checkpoints.keys import ema_name
from magvit_export.checkpoints.reading import LoadedWeights, Variant, load_weights
from magvit_export.checkpoints.seeded import seeded_array
from magvit_export.families.autoregressive.config import AutoregressiveConfig
from magvit_export.families.ibq.config import IbqConfig
from magvit_export.families.ibq.family import FAMILY as IBQ
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.families.magvit.family import FAMILY

SMALL = TokenizerConfig(ch=32, num_res_blocks=1)
TINY = TokenizerConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1)
# The transformer of the golden values, and a first stage for its ids.
SMALL_AR = AutoregressiveConfig(
    block_size=16, spatial_n_layer=3, n_head=4, dim=64, cond_dim=64, class_num=10
)
FIRST_STAGE = TokenizerConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1, dims=2)
# Two levels, attention at the second, a codebook of more rows than one tile.
TINY_IBQ = IbqConfig(
    n_embed=6000,
    embed_dim=16,
    ch=32,
    ch_mult=(1, 2),
    num_res_blocks=1,
    attn_resolutions=(128,),
    z_channels=24,
)


def model_shapes(config: TokenizerConfig | IbqConfig) -> dict[str, tuple[int, ...]]:
    family = IBQ if isinstance(config, IbqConfig) else FAMILY
    return {key: tuple(value.shape) for key, value in family.build(config).state_dict().items()}


def raw_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(seeded_array(key, shape)) for key, shape in shapes.items()}


def ema_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Keys without dots, seeded by those names: unrelated to the raw weights."""
    tensors: dict[str, Tensor] = {
        "model_ema.decay": torch.tensor(0.999),
        "model_ema.num_updates": torch.tensor(1, dtype=torch.int32),
    }
    for key, shape in shapes.items():
        name = ema_name(key)
        tensors[name] = torch.from_numpy(seeded_array(key, shape, name=name))
    return tensors


def published_tensors(config: TokenizerConfig | IbqConfig) -> dict[str, Tensor]:
    shapes = model_shapes(config)
    return raw_tensors(shapes) | ema_tensors(shapes)


def load_encoder_weights(
    path: Path, shapes: Mapping[str, tuple[int, ...]], variant: Variant | None = None
) -> LoadedWeights:
    """Loads a tokenizer as `magvit export` does when it needs only the encoder."""
    return load_weights(path, shapes, ("encoder.",), FAMILY.spellings, variant)


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    torch.save({"state_dict": dict(tensors)}, path)
    return path


def golden(name: str) -> Mapping[str, np.ndarray]:
    return np.load(Path(__file__).parent / "golden" / f"{name}.npz")
