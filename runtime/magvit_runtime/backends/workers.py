"""Refuses workers if a backend has none."""

from __future__ import annotations

from magvit_runtime.backends.backend import Opening
from magvit_runtime.errors import InputError


def refuse_workers(backend: str, opening: Opening) -> None:
    """For backends without workers.

    Raises:
        InputError: Workers are asked for.
    """
    if opening.workers is not None:
        raise InputError(
            f"{backend} has no workers, which are for GPUs",
            found=f"`workers` of {opening.workers}",
            mend="leave `workers` out, or pass backend='native-cuda' or an engine's",
        )
