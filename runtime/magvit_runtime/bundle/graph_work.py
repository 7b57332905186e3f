"""The work of a graph, as bundle.json says it."""

from __future__ import annotations

from typing import Annotated

import msgspec


class GraphWork(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The work of a graph for one item, at the model's own size.

    Attributes:
        shapes: The item: the shape of each input by its name.
        flop: Operations of convs and matrix products, done directly: 2 per multiplication, those
            with padding included.
        weight_bytes: Weights, read once per call for any number of items.
        map_bytes: The inputs and outputs of convs and matrix products, and the terms added to the
            residual stream, moved once, with all else fused.
    """

    shapes: dict[str, tuple[Annotated[int, msgspec.Meta(ge=1)], ...]]
    flop: Annotated[int, msgspec.Meta(ge=0)]
    weight_bytes: Annotated[int, msgspec.Meta(ge=0)]
    map_bytes: Annotated[int, msgspec.Meta(ge=0)]
