"""Files of tokens and features as what a classifier learns from, joined by the ids of clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magvit_export.training.sources import Features, Source, Tokens
from magvit_export.training.splitting import group_numbers
from magvit_runtime.clips.trajectories.camera import trajectory_of
from magvit_runtime.errors import InputError
from magvit_runtime.quantizers import vocabulary_size
from magvit_runtime.results.feature_files import FeatureFileInfo, FeatureTable, read_features
from magvit_runtime.results.token_files import (
    DAMAGE,
    TokenFileInfo,
    TokenTable,
    import_pyarrow,
    read_tokens,
)

Info = TokenFileInfo | FeatureFileInfo
ClipTable = TokenTable | FeatureTable
_SHOWN = 3


@dataclass(frozen=True)
class LabelledClips:
    """N clips, and what is known of each.

    Attributes:
        ids: Name of each clip.
        labels: Class of each; None where it isn't known.
        sources: Tokens and features.
        infos: What each source is.
        groups: int64 [N]: rows of one group, as views of one trajectory, share a number.
        views: Clips a trajectory, where several cameras saw it.
        varied: bool [N]: which clips show varied copies of trajectories.
        notes: What was left out, in words.
    """

    ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    sources: tuple[Source, ...]
    infos: tuple[Info, ...]
    groups: NDArray[np.int64]
    views: int
    varied: NDArray[np.bool_]
    notes: tuple[str, ...] = ()


def read_table(path: Path) -> ClipTable:
    """Reads a file of tokens or of features, or a folder of tokens.

    Raises:
        InputError: It is neither, or is damaged.
        MissingPackageError: It is Parquet and pyarrow isn't installed.
    """
    if path.is_dir():
        return read_tokens(path)
    return read_features(path) if "features" in _columns(path) else read_tokens(path)


def join_tables(tables: Sequence[ClipTable], names: Sequence[str] = ()) -> LabelledClips:
    """The clips that all tables hold, in the order of the first.

    Args:
        tables: Of the same clips.
        names: Of the tables, for messages.

    Raises:
        InputError: They have no clip in common, or differ in a label, or clips are of several
            lengths.
    """
    names = names or [f"source {i + 1}" for i in range(len(tables))]
    first = tables[0]
    rows = [np.arange(len(first.ids))]
    notes: list[str] = []
    if len(tables) > 1:
        rows, notes = _joined_rows(tables, names)
    ids = tuple(first.ids[row] for row in rows[0])
    labels = _joined_labels(tables, rows, names)
    infos = tuple(table.info for table in tables)
    views = max((info.drawing.views for info in infos if info.drawing), default=1)
    groups = group_numbers([trajectory_of(name, views) for name in ids])
    return LabelledClips(
        ids,
        labels,
        tuple(map(_source, tables, rows, names)),
        infos,
        # Without views each row is alone, though ids may repeat.
        np.arange(len(ids)) if views == 1 else groups,
        views,
        np.zeros(len(ids), bool),
        tuple(notes),
    )


def _columns(path: Path) -> Sequence[str]:
    """Names of a file's columns or arrays; none where it can't be read, which readers explain."""
    try:
        if path.suffix.lower() == ".parquet":
            names: Sequence[str] = import_pyarrow().parquet.read_schema(path).names
            return names
        with np.load(path, allow_pickle=False) as arrays:
            return list(arrays)
    except DAMAGE:
        return ()


def _joined_rows(
    tables: Sequence[ClipTable], names: Sequence[str]
) -> tuple[list[NDArray[np.intp]], list[str]]:
    """Rows of each table that belong together, and what others lack."""
    places = []
    for table, name in zip(tables, names, strict=True):
        place = {clip: row for row, clip in enumerate(table.ids)}
        if len(place) < len(table.ids):
            raise InputError(
                f"{name} has an id more than once, and can't be joined to others",
                found=f"{len(table.ids)} rows, {len(place)} ids",
            )
        places.append(place)
    common = [clip for clip in tables[0].ids if all(clip in place for place in places)]
    if not common:
        raise InputError(
            "the files have no clip in common",
            found="; ".join(
                f"{name}: {', '.join([*place][:_SHOWN])}"
                for name, place in zip(names, places, strict=True)
            ),
            mend="make all of them from the same trajectories",
        )
    every = dict.fromkeys(clip for table in tables for clip in table.ids)
    notes = []
    for name, place in zip(names, places, strict=True):
        lacking = [clip for clip in every if clip not in place]
        if lacking:
            more = ", …" if len(lacking) > _SHOWN else ""
            notes.append(
                f"{name} lacks {len(lacking)} of {len(every)} clips, which are left out: "
                f"{', '.join(lacking[:_SHOWN])}{more}"
            )
    return [np.array([place[clip] for clip in common]) for place in places], notes


def _joined_labels(
    tables: Sequence[ClipTable], rows: Sequence[NDArray[np.intp]], names: Sequence[str]
) -> tuple[str | None, ...]:
    labels = [tables[0].labels[row] for row in rows[0]]
    for table, own, name in zip(tables[1:], rows[1:], names[1:], strict=True):
        for i, row in enumerate(own):
            other = table.labels[row]
            if labels[i] is None:
                labels[i] = other
            elif other is not None and other != labels[i]:
                raise InputError(
                    f"{name} has another label than {names[0]} for {table.ids[row]!r}",
                    found=repr(other),
                    expected=repr(labels[i]),
                )
    return tuple(labels)


def _source(table: ClipTable, rows: NDArray[np.intp], name: str) -> Source:
    if isinstance(table, FeatureTable):
        return Features(table.features[rows])
    if table.time_steps and min(table.time_steps) < table.info.grid[0]:
        raise InputError(
            f"{name} has clips of several lengths, and a classifier takes one",
            found=f"{min(table.time_steps)} to {table.info.grid[0]} steps of time",
            mend="tokenize with --tail drop or --tail pad",
        )
    return Tokens(table.tokens[rows], vocabulary_size(table.info.quantizer))
