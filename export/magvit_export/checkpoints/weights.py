"""Where weights come from: a file, the hub, this package, or a seed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from magvit_export.catalog import CatalogEntry
from magvit_export.checkpoints.hub import fetch_checkpoint
from magvit_export.checkpoints.packaged import TRAINED, require_packaged
from magvit_export.checkpoints.reading import Spellings, Variant, load_weights
from magvit_export.checkpoints.seeded import seeded_state
from magvit_runtime.bundle.manifest import WeightsRecord
from magvit_runtime.errors import InputError
from magvit_runtime.files.names import as_text

_SEEDED = re.compile(r"seeded(?::(\d+))?")


@dataclass(frozen=True)
class Weights:
    """A model's tensors by raw key, and the record of where they came from."""

    state: dict[str, Tensor]
    record: WeightsRecord


def is_seeded(source: str) -> bool:
    """Whether a source of weights is a seed: "seeded" or "seeded:N"."""
    return _SEEDED.fullmatch(source) is not None


def find_weights(
    source: str,
    entry: CatalogEntry,
    shapes: Mapping[str, tuple[int, ...]],
    prefixes: tuple[str, ...] | None,
    spellings: Spellings,
    variant: Variant | None = None,
    passed_over: tuple[str, ...] = (),
) -> Weights:
    """Loads or generates the weights of a model.

    Args:
        source: Path of a checkpoint (a file, an index of shards, or a folder with one of these),
            "hub", "trained" (those that ship with this package), "seeded" or "seeded:N".
        entry: The model, for its place on the hub.
        shapes: Shape of every raw key of the model.
        prefixes: The keys that are needed begin with one of these; None needs those of the groups
            that the checkpoint has.
        spellings: Names under which a key may stand in a file.
        variant: "ema" or "raw"; None takes EMA weights where there are any.
        passed_over: Beginnings of keys that files may hold besides.

    Raises:
        InputError: The source makes no sense for this model.
        HubError: The hub can't be reached.
        CheckpointError: The checkpoint isn't one of this model.
    """
    if seeded := _SEEDED.fullmatch(source):
        if variant is not None:
            raise InputError("seeded weights have no EMA", mend="leave --variant out")
        seed = None if seeded[1] is None else int(seeded[1])
        # Weights that nobody needs would be made for nothing.
        needed = {
            key: shape
            for key, shape in shapes.items()
            if prefixes is None or key.startswith(prefixes)
        }
        return Weights(seeded_state(needed, seed), WeightsRecord("seeded", source))
    if source == "hub":
        path = fetch_checkpoint(entry)
        loaded = load_weights(path, shapes, prefixes, spellings, variant, passed_over)
        place = "/".join(filter(None, (entry.repo, entry.file)))
        record = WeightsRecord("hub", place, loaded.variant, loaded.sha256)
        return Weights(loaded.state, record)
    path = require_packaged(entry.name) if source == TRAINED else Path(source)
    loaded = load_weights(path, shapes, prefixes, spellings, variant, passed_over)
    name = as_text(path.absolute().name)  # Of the folder "." too.
    if source == TRAINED:
        name = f"{name} (trained on trajectories, ships with magvit-runtime)"
    return Weights(loaded.state, WeightsRecord("file", name, loaded.variant, loaded.sha256))
