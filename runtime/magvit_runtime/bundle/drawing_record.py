"""How a classifier's training clips were drawn, as bundle.json and token files say it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec


class DrawingRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How trajectories were drawn as clips.

    Attributes:
        style: Size, length and look of the clips: the fields of `StyleOptions`.
        positions: What columns were taken for.
        camera: The fields of the first `Camera` of trajectories in space; None where there were
            none.
        views: How many cameras each was seen by, one clip each.
    """

    style: dict[str, int | float | str]
    positions: str = "auto"
    camera: dict[str, Any] | None = None
    views: Annotated[int, msgspec.Meta(ge=1)] = 1
