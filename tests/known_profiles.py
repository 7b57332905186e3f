"""Profiles of engines that take clips."""

from __future__ import annotations

from magvit_runtime.bundle.engine_records import Profile, ShapeRange


def profile_of(minimum: int, optimum: int, maximum: int, clip: tuple[int, ...]) -> Profile:
    """Batches of clips of one size, as `magvit build` makes them."""
    return {"frames": ShapeRange((minimum, *clip), (optimum, *clip), (maximum, *clip))}
