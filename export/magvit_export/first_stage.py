"""The tokenizer that decodes what an autoregressive model generates: its first stage.

The reference decodes with the raw weights, not their average (`use_ema: False`), and the model
learned from ids that raw weights made. Where the model's own checkpoint holds a first stage, that
one decodes.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec

from magvit_export.catalog import CatalogEntry, find_model
from magvit_export.checkpoints.hub import fetch_checkpoint
from magvit_export.checkpoints.reading import Variant, holds_any
from magvit_export.families.family import Family, find_family, has_section, read_config
from magvit_export.loading import LoadedModel, load_model
from magvit_runtime.bundle.manifest import Role, TokenSpec
from magvit_runtime.errors import InputError

logger = logging.getLogger(__name__)

# What an autoregressive model needs of a tokenizer.
ROLES: tuple[Role, ...] = ("decode",)


def first_stage_family(entry: CatalogEntry) -> Family[Any] | None:
    """The family of a model's first stage; None for a model that has none."""
    return None if entry.first_stage is None else find_family(find_model(entry.first_stage).family)


def first_stage_config(entry: CatalogEntry, path: Path) -> msgspec.Struct | None:
    """The first stage's architecture as a configuration of the whole model says it.

    Returns:
        None where the model has no first stage, or the file says nothing of it.

    Raises:
        InputError: The file's section isn't one of the first stage's family.
    """
    family = first_stage_family(entry)
    if family is None or entry.first_stage is None or not has_section(path, family.section):
        return None
    config: msgspec.Struct = read_config(
        path, family.config, find_model(entry.first_stage).config, section=family.section
    )
    return config


def load_first_stage(
    entry: CatalogEntry,
    weights: str,
    tokenizer: str | None,
    config: msgspec.Struct | None,
    tokens: TokenSpec | None,
) -> LoadedModel | None:
    """A model's first stage with its raw weights.

    Args:
        entry: The autoregressive model.
        weights: Its own weights, which may hold the first stage's.
        tokenizer: The first stage's weights: a checkpoint, "hub", "seeded" or "seeded:N".
        config: The first stage's architecture; None is that of the catalog.
        tokens: What the model's ids mean.

    Returns:
        None where the model has none, or there are no weights for it.

    Raises:
        InputError: The tokenizer's ids are others than the model's.
        CheckpointError: The checkpoint isn't one of the first stage.
    """
    family = first_stage_family(entry)
    if family is None or entry.first_stage is None:
        return None
    stage = find_model(entry.first_stage)
    config = config or stage.config
    keys = [key for key in family.build(config).state_dict() if _is_needed(family, key)]
    file = _checkpoint(entry, weights)
    source, place = tokenizer, stage
    if file is not None and holds_any(file, keys, family.spellings):
        if tokenizer is not None:
            logger.warning("%s holds a first stage of its own: %s isn't used", file, tokenizer)
        source, place = weights, entry
    if source is None:
        return None
    if tokens is not None and family.tokens is not None:
        ours, theirs = tokens.quantizer, family.tokens(config).quantizer
        if ours != theirs:
            raise InputError(
                "the tokenizer's ids aren't those that the model generates",
                found=msgspec.to_builtins(theirs),
                expected=msgspec.to_builtins(ours),
                mend="give the tokenizer that the model was trained with, or its --config",
            )
    variant: Variant | None = None if source.partition(":")[0] == "seeded" else "raw"
    return load_model(family, place, config, ROLES, source, variant)


def _is_needed(family: Family[Any], key: str) -> bool:
    return key.startswith(tuple(prefix for role in ROLES for prefix in family.roles[role].prefixes))


def _checkpoint(entry: CatalogEntry, weights: str) -> Path | None:
    """The file of a model's weights; None where they are generated."""
    if weights == "hub":
        return fetch_checkpoint(entry)
    return None if weights.partition(":")[0] == "seeded" else Path(weights)
