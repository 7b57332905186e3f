"""Files of tokens: one row a clip, and what the tokens mean in the file's own metadata."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.clips.batches import VideoPlace
from magvit_runtime.clips.video import Tail
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.hardware.packages import missing_package
from magvit_runtime.quantizers.specs import QuantizerSpec
from magvit_runtime.quantizers.vocabulary import check_ids

METADATA_KEY = b"magvit"
# In place of tokens that a shorter clip hasn't; null in Parquet.
NO_TOKEN = -1
# What the readers of either format raise where a file is damaged, or is something else.
DAMAGE = (
    BadZipFile,
    EOFError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
    msgspec.MsgspecError,
    zlib.error,
)


class TokenFileInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the tokens of a file are.

    Attributes:
        model: Model that made them.
        weights: Source and name of its weights. "seeded…": generated, never trained.
        weights_sha256: Digest of the checkpoint; None for seeded weights.
        quantizer: What an id means.
        grid: Tokens a clip: [t, h, w], or [h, w] for images.
        tail: What became of a video's last frames that filled no clip; None where the clips come
            from something else.
        drawing: How trajectories were drawn; None where the clips come from something else.
    """

    model: str
    weights: str
    weights_sha256: str | None
    quantizer: QuantizerSpec
    grid: tuple[int, ...]
    tail: Tail | None = None
    drawing: DrawingRecord | None = None


@dataclass(frozen=True)
class TokenTable:
    """The tokens of N clips.

    Attributes:
        info: What they are.
        ids: Name of each clip.
        labels: Class of each clip, where it is known.
        tokens: int32 [N, *grid]; -1 after the last step of a shorter clip.
        time_steps: Steps of time that each clip has, of the grid's; empty where all are whole.
        places: Where each clip lies in its video; empty where they come from something else.
    """

    info: TokenFileInfo
    ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    tokens: NDArray[np.int32]
    time_steps: tuple[int, ...] = ()
    places: tuple[VideoPlace, ...] = ()


class TokenWriter(Protocol):
    """Takes one batch of tokens after another."""

    def write(
        self,
        ids: tuple[str, ...],
        labels: tuple[str | None, ...],
        tokens: NDArray[np.int32],
        places: tuple[VideoPlace, ...] = (),
    ) -> None:
        """Appends clips.

        Args:
            ids: Name of each.
            labels: Class of each, where it is known.
            tokens: int32 [N, *grid], of one grid throughout a file; the clips of a tail that is
                "short" may have fewer steps of time than the first.
            places: Where each lies in its video, in all of a file or in none.
        """

    def close(self) -> None:
        """Ends the file."""


def token_file_info(
    bundle: Bundle,
    grid: tuple[int, ...],
    tail: Tail | None = None,
    drawing: DrawingRecord | None = None,
) -> TokenFileInfo:
    """Describes tokens that a bundle's encoder made."""
    manifest = bundle.manifest
    weights = manifest.component.weights
    name = weights.name if bundle.is_seeded else f"{weights.source} {weights.name}"
    quantizer = bundle.tokens.quantizer
    return TokenFileInfo(manifest.model, name, weights.sha256, quantizer, grid, tail, drawing)


@contextmanager
def token_writer(
    path: Path, bundle: Bundle, tail: Tail | None = None, drawing: DrawingRecord | None = None
) -> Iterator[TokenWriter]:
    """Opens a token file for writing; the file appears when the block ends without an error.

    Args:
        path: .parquet (streams, needs pyarrow) or .npz (held in memory until the end).
        bundle: What makes the tokens.
        tail: The rule for the last frames of a video, for the record.
        drawing: How trajectories are drawn, for the record.

    Raises:
        InputError: The file's kind is unknown, or it can't be written.
        MissingPackageError: pyarrow isn't installed.
    """
    kinds: dict[str, Callable[[Path, Bundle, Tail | None, DrawingRecord | None], TokenWriter]] = {
        ".parquet": _ParquetWriter,
        ".npz": _NpzWriter,
    }
    if path.suffix.lower() not in kinds:
        raise InputError(f"{path} is of an unknown kind", expected=" or ".join(kinds))
    with atomic_path(path) as partial:
        writer = kinds[path.suffix.lower()](partial, bundle, tail, drawing)
        try:
            yield writer
        finally:
            writer.close()


def read_tokens(path: Path) -> TokenTable:
    """Reads a whole token file (about 5 KB a clip).

    Raises:
        InputError: The file can't be read, is no token file, or has a token that its quantizer
            doesn't make.
        MissingPackageError: It is Parquet and pyarrow isn't installed.
    """
    if not path.is_file():
        raise InputError(f"{path} is no file", mend="make one with `magvit tokenize`")
    try:
        table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_npz(path)
    except DAMAGE as error:
        raise InputError(
            f"{path} is no token file", found=str(error), mend="make one with `magvit tokenize`"
        ) from error
    if table.tokens.shape != (len(table.ids), *table.info.grid):
        raise InputError(f"{path} is damaged", found=table.tokens.shape, expected=table.info.grid)
    check_ids(f"tokens in {path}", _used(path, table), table.info.quantizer)
    return table


def _used(path: Path, table: TokenTable) -> NDArray[np.int32]:
    """The tokens without those after the last step of shorter clips, which must be -1."""
    if not table.time_steps:
        return table.tokens
    steps = np.array(table.time_steps)
    unused = np.arange(table.info.grid[0]) >= steps[:, None]
    if steps.min() < 1 or (table.tokens[unused] != NO_TOKEN).any():
        raise InputError(f"{path} is damaged", found="tokens after the last step of a clip")
    used: NDArray[np.int32] = table.tokens[~unused]
    return used


def _filled_up(tokens: NDArray[np.int32], grid: tuple[int, ...]) -> NDArray[np.int32]:
    """Tokens of clips that may be shorter, [N, *grid], with -1 for steps that they haven't."""
    found = tokens.shape[1:]
    if found == grid:
        return tokens
    if len(found) != len(grid) or found[1:] != grid[1:] or found[0] > grid[0]:
        raise InputError("a token file's clips are of one size", found=found, expected=grid)
    whole = np.full((len(tokens), *grid), NO_TOKEN, np.int32)
    whole[:, : found[0]] = tokens
    return whole


class _ParquetWriter:
    def __init__(
        self, path: Path, bundle: Bundle, tail: Tail | None, drawing: DrawingRecord | None
    ) -> None:
        self._arrow = import_pyarrow()
        self._bundle = bundle
        # Opened here: pyarrow takes no name that isn't UTF-8.
        self._output = path.open("wb")
        self._tail = tail
        self._drawing = drawing
        self._grid: tuple[int, ...] = ()
        self._file: Any = None

    def write(
        self,
        ids: tuple[str, ...],
        labels: tuple[str | None, ...],
        tokens: NDArray[np.int32],
        places: tuple[VideoPlace, ...] = (),
    ) -> None:
        arrow = self._arrow
        if self._file is None:
            self._open(tokens.shape[1:], has_places=bool(places))
        flat = np.ascontiguousarray(_filled_up(tokens, self._grid)).reshape(-1)
        values = arrow.array(flat, mask=flat == NO_TOKEN)
        columns = {
            "id": ids,
            "label": labels,
            "tokens": arrow.FixedSizeListArray.from_arrays(values, math.prod(self._grid)),
            "time_steps": [tokens.shape[1]] * len(ids),
            **_place_columns(places),
        }
        schema = self._file.schema
        arrays = [arrow.array(columns[field.name], field.type) for field in schema]
        self._file.write_batch(arrow.record_batch(arrays, schema=schema))

    def close(self) -> None:
        with self._output:
            if self._file is not None:
                self._file.close()

    def _open(self, grid: tuple[int, ...], has_places: bool) -> None:
        arrow = self._arrow
        self._grid = grid
        schema = {"id": arrow.string(), "label": arrow.string()}
        schema["tokens"] = arrow.list_(arrow.int32(), math.prod(grid))
        if self._tail == "short":
            schema["time_steps"] = arrow.int32()
        if has_places:
            kinds = {"str": arrow.string(), "int": arrow.int64()}
            schema |= {field.name: kinds[str(field.type)] for field in fields(VideoPlace)}
        info = token_file_info(self._bundle, grid, self._tail, self._drawing)
        described = arrow.schema(schema, {METADATA_KEY: msgspec.json.encode(info)})
        self._file = arrow.parquet.ParquetWriter(self._output, described, compression="zstd")


class _NpzWriter:
    def __init__(
        self, path: Path, bundle: Bundle, tail: Tail | None, drawing: DrawingRecord | None
    ) -> None:
        self._path = path
        self._bundle = bundle
        self._tail = tail
        self._drawing = drawing
        self._rows: list[tuple[str, str | None, NDArray[np.int32]]] = []
        self._places: list[VideoPlace] = []

    def write(
        self,
        ids: tuple[str, ...],
        labels: tuple[str | None, ...],
        tokens: NDArray[np.int32],
        places: tuple[VideoPlace, ...] = (),
    ) -> None:
        self._rows.extend(zip(ids, labels, tokens, strict=True))
        self._places.extend(places)

    def close(self) -> None:
        if not self._rows:
            return
        ids, labels, tokens = zip(*self._rows, strict=True)
        grid = tokens[0].shape
        info = token_file_info(self._bundle, grid, self._tail, self._drawing)
        columns: dict[str, Any] = {
            "id": ids,
            "label": [label or "" for label in labels],
            "tokens": np.concatenate([_filled_up(clip[None], grid) for clip in tokens]),
            "info": np.frombuffer(msgspec.json.encode(info), np.uint8),
        }
        if self._tail == "short":
            columns["time_steps"] = [len(clip) for clip in tokens]
        if self._places:
            columns |= _place_columns(tuple(self._places))
        arrays: dict[str, Any] = {name: np.array(column) for name, column in columns.items()}
        with self._path.open("wb") as file:
            np.savez(file, **arrays)


def _place_columns(places: tuple[VideoPlace, ...]) -> dict[str, list[Any]]:
    rows = [asdict(place) for place in places]
    return {field.name: [row[field.name] for row in rows] for field in fields(VideoPlace)}


def _read_parquet(path: Path) -> TokenTable:
    arrow = import_pyarrow()
    with path.open("rb") as file:
        table = arrow.parquet.read_table(file)
    info = msgspec.json.decode(table.schema.metadata[METADATA_KEY], type=TokenFileInfo)
    lists = table["tokens"].combine_chunks()
    tokens = lists.values.fill_null(NO_TOKEN).to_numpy().reshape(-1, *info.grid)
    columns = {name: table[name].to_pylist() for name in table.column_names if name != "tokens"}
    return _table(info, columns, tuple(columns["label"]), tokens)


def _read_npz(path: Path) -> TokenTable:
    with np.load(path, allow_pickle=False) as arrays:
        info = msgspec.json.decode(arrays["info"].tobytes(), type=TokenFileInfo)
        names = set(arrays.files) - {"tokens", "info"}
        columns = {name: arrays[name].tolist() for name in names}
        labels = tuple(label or None for label in columns["label"])
        return _table(info, columns, labels, arrays["tokens"])


def _table(
    info: TokenFileInfo,
    columns: Mapping[str, list[Any]],
    labels: tuple[str | None, ...],
    tokens: NDArray[np.int32],
) -> TokenTable:
    names = [field.name for field in fields(VideoPlace)]
    places: tuple[VideoPlace, ...] = ()
    if columns.keys() >= set(names):
        rows = zip(*(columns[name] for name in names), strict=True)
        places = tuple(VideoPlace(*row) for row in rows)
    ids, steps = tuple(columns["id"]), tuple(columns.get("time_steps", ()))
    return TokenTable(info, ids, labels, tokens, steps, places)


def import_pyarrow() -> Any:
    """The package with its Parquet module, or a `MissingPackageError`."""
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise missing_package("pyarrow", "a Parquet file (unlike .npz)") from error
    return pa
