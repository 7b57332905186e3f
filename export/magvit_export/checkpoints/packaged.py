"""Trained weights that ship with this package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from magvit_export.checkpoints.shards import checkpoint_sha256
from magvit_runtime.errors import InputError

# Source of weights: those that ship for a model.
TRAINED = "trained"


def packaged_checkpoint(model: str) -> Path | None:
    """Folder of a model's packaged weights, with an index, its shards and MODEL_CARD.md, if any."""
    path = Path(str(files("magvit_export") / "data" / model))
    return path if path.is_dir() else None


def require_packaged(model: str) -> Path:
    """The same folder.

    Raises:
        InputError: No weights of this model ship with the package.
    """
    path = packaged_checkpoint(model)
    if path is None:
        raise InputError(
            f"no trained weights of {model} ship with this package",
            expected="a checkpoint's path, hub, seeded or seeded:N",
        )
    return path


def is_packaged(model: str, sha256: str | None) -> bool:
    """Whether weights of this digest are a model's packaged ones."""
    path = packaged_checkpoint(model)
    return path is not None and checkpoint_sha256(path) == sha256
