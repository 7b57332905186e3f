"""Files of features: one row a clip, and what the features are in the file's own metadata."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.bundle.manifest import Preprocessing
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.errors import InputError
from magvit_runtime.features import Pool
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.results.token_files import DAMAGE, METADATA_KEY, import_pyarrow

Features = NDArray[np.float32]


class FeatureFileInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the features of a file are.

    Attributes:
        model: Model that made them.
        weights: Source and name of its weights. "seeded…": generated, never trained.
        weights_sha256: Digest of the checkpoint; None for seeded weights.
        shape: Of one clip's features; a row of Parquet holds them in C order.
        pool: "mean" where each clip has one vector.
        preprocessing: What was done to the clips.
        drawing: How trajectories were drawn; None where the clips come from something else.
    """

    model: str
    weights: str
    weights_sha256: str | None
    shape: tuple[int, ...]
    pool: Pool
    preprocessing: Preprocessing | None = None
    drawing: DrawingRecord | None = None


@dataclass(frozen=True)
class FeatureTable:
    """The features of N clips.

    Attributes:
        info: What they are.
        ids: Name of each clip.
        labels: Class of each clip, where it is known.
        features: float32 [N, *shape].
    """

    info: FeatureFileInfo
    ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    features: Features


class FeatureWriter(Protocol):
    """Takes one batch of features after another."""

    def write(
        self, ids: tuple[str, ...], labels: tuple[str | None, ...], features: Features
    ) -> None:
        """Appends clips, all of a file of one shape.

        Raises:
            InputError: These are of another shape than the first.
        """

    def close(self) -> None:
        """Ends the file."""


@contextmanager
def feature_writer(
    path: Path, bundle: Bundle, pool: Pool, drawing: DrawingRecord | None = None
) -> Iterator[FeatureWriter]:
    """Opens a file for writing; it appears when the block ends without an error.

    Args:
        path: .parquet (streams, needs pyarrow), or .npz or .npy (held in memory until the end). A
            .npy file holds the features alone.
        bundle: What makes the features.
        pool: Whether they are pooled.
        drawing: How trajectories are drawn, for the record.

    Raises:
        InputError: The file's kind is unknown, or it can't be written.
        MissingPackageError: pyarrow isn't installed.
    """
    kinds: dict[str, Callable[[Path, FeatureFileInfo], FeatureWriter]] = {
        ".parquet": _ParquetWriter,
        ".npz": _NpzWriter,
        ".npy": _NpyWriter,
    }
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path} is of an unknown kind", expected=", ".join(kinds))
    manifest = bundle.manifest
    weights = manifest.component.weights
    info = FeatureFileInfo(
        model=manifest.model,
        weights=weights.name if bundle.is_seeded else f"{weights.source} {weights.name}",
        weights_sha256=weights.sha256,
        shape=(),
        pool=pool,
        preprocessing=bundle.graph("features")[1].preprocessing,
        drawing=drawing,
    )
    with atomic_path(path) as partial:
        writer = kind(partial, info)
        try:
            yield writer
        finally:
            writer.close()


def read_features(path: Path) -> FeatureTable:
    """Reads a whole file of features, .parquet or .npz.

    Raises:
        InputError: The file can't be read, or is none of these.
        MissingPackageError: It is Parquet and pyarrow isn't installed.
    """
    mend = "make one with `magvit features`"
    if not path.is_file():
        raise InputError(f"{path} is no file", mend=mend)
    try:
        table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_npz(path)
    except DAMAGE as error:
        raise InputError(f"{path} is no file of features", found=str(error), mend=mend) from error
    expected = (len(table.ids), *table.info.shape)
    if table.features.shape != expected or table.features.dtype != np.float32:
        raise InputError(
            f"{path} is damaged",
            found=f"{table.features.dtype} {list(table.features.shape)}",
            expected=f"float32 {list(expected)}",
        )
    return table


def _check_shape(features: Features, shape: tuple[int, ...]) -> None:
    if features.shape[1:] != shape:
        raise InputError(
            "a file's features are of one shape, and these clips have another",
            found=list(features.shape[1:]),
            expected=list(shape),
            mend="pass --pool mean, or clips of one length",
        )


class _ParquetWriter:
    def __init__(self, path: Path, info: FeatureFileInfo) -> None:
        self._arrow = import_pyarrow()
        # Opened here: pyarrow takes no name that isn't UTF-8.
        self._output = path.open("wb")
        self._info = info
        self._file: Any = None

    def write(
        self, ids: tuple[str, ...], labels: tuple[str | None, ...], features: Features
    ) -> None:
        arrow = self._arrow
        if self._file is None:
            self._open(features.shape[1:])
        _check_shape(features, self._info.shape)
        values = arrow.array(np.ascontiguousarray(features).reshape(-1))
        size = math.prod(self._info.shape)
        columns = [
            arrow.array(ids, arrow.string()),
            arrow.array(labels, arrow.string()),
            arrow.FixedSizeListArray.from_arrays(values, size),
        ]
        self._file.write_batch(arrow.record_batch(columns, schema=self._file.schema))

    def close(self) -> None:
        with self._output:
            if self._file is not None:
                self._file.close()

    def _open(self, shape: tuple[int, ...]) -> None:
        arrow = self._arrow
        self._info = msgspec.structs.replace(self._info, shape=shape)
        columns = {
            "id": arrow.string(),
            "label": arrow.string(),
            "features": arrow.list_(arrow.float32(), math.prod(shape)),
        }
        schema = arrow.schema(columns, {METADATA_KEY: msgspec.json.encode(self._info)})
        self._file = arrow.parquet.ParquetWriter(self._output, schema, compression="zstd")


class _NpyWriter:
    def __init__(self, path: Path, info: FeatureFileInfo) -> None:
        self._path = path
        self._info = info
        self._ids: list[str] = []
        self._labels: list[str] = []
        self._parts: list[Features] = []

    def write(
        self, ids: tuple[str, ...], labels: tuple[str | None, ...], features: Features
    ) -> None:
        if self._parts:
            _check_shape(features, self._parts[0].shape[1:])
        self._ids += ids
        self._labels += [label or "" for label in labels]
        self._parts.append(features)

    def close(self) -> None:
        if self._parts:
            with self._path.open("wb") as file:
                self._save(file, np.concatenate(self._parts))

    def _save(self, file: Any, features: Features) -> None:
        np.save(file, features)


class _NpzWriter(_NpyWriter):
    def _save(self, file: Any, features: Features) -> None:
        info = msgspec.structs.replace(self._info, shape=features.shape[1:])
        np.savez(
            file,
            id=np.array(self._ids),
            label=np.array(self._labels),
            features=features,
            info=np.frombuffer(msgspec.json.encode(info), np.uint8),
        )


def _read_parquet(path: Path) -> FeatureTable:
    arrow = import_pyarrow()
    with path.open("rb") as file:
        table = arrow.parquet.read_table(file)
    info = msgspec.json.decode(table.schema.metadata[METADATA_KEY], type=FeatureFileInfo)
    values = table["features"].combine_chunks().values.to_numpy()
    ids, labels = (tuple(table[name].to_pylist()) for name in ("id", "label"))
    return FeatureTable(info, ids, labels, values.reshape(len(ids), *info.shape))


def _read_npz(path: Path) -> FeatureTable:
    with np.load(path, allow_pickle=False) as arrays:
        info = msgspec.json.decode(arrays["info"].tobytes(), type=FeatureFileInfo)
        labels = tuple(label or None for label in arrays["label"].tolist())
        return FeatureTable(info, tuple(arrays["id"].tolist()), labels, arrays["features"])
