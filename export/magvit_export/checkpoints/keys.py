"""The key names of Open-MAGVIT2 checkpoints: raw weights, their EMA copies, and the rest."""

from __future__ import annotations

EMA_PREFIX = "model_ema."
EMA_BOOKKEEPING = frozenset({"model_ema.decay", "model_ema.num_updates"})
TRAINING_PREFIXES = ("loss.", "model_ema.loss")


def ema_name(key: str) -> str:
    """Name of a raw key's EMA copy: prefixed, all dots removed, underscores kept.

    It can't be parsed back, so maps are always built from raw names.
    """
    return EMA_PREFIX + key.replace(".", "")


def is_training_only(key: str) -> bool:
    """Whether inference has no use for a key: losses, discriminators, EMA bookkeeping."""
    return key in EMA_BOOKKEEPING or key.startswith(TRAINING_PREFIXES)
