"""Files of tokens, written batch by batch; and read, from a file or a folder of a run."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.clips.batches import ClipBatch, VideoPlace
from magvit_runtime.clips.video import Tail
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.results.folders import Place, place_of
from magvit_runtime.results.token_folders import read_token_folder
from magvit_runtime.results.token_table import DAMAGE as DAMAGE
from magvit_runtime.results.token_table import METADATA_KEY as METADATA_KEY
from magvit_runtime.results.token_table import NO_TOKEN as NO_TOKEN
from magvit_runtime.results.token_table import TokenFileInfo as TokenFileInfo
from magvit_runtime.results.token_table import TokenTable as TokenTable
from magvit_runtime.results.token_table import import_pyarrow as import_pyarrow
from magvit_runtime.results.token_table import read_token_file
from magvit_runtime.results.token_table import token_file_info as token_file_info


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
    kinds: dict[str, Callable[..., _ParquetWriter | _NpzWriter]] = {
        ".parquet": _ParquetWriter,
        ".npz": _NpzWriter,
    }
    if path.suffix.lower() not in kinds:
        raise InputError(f"{path} is of an unknown kind", expected=" or ".join(kinds))
    # Opened here: pyarrow takes no name that isn't UTF-8.
    with atomic_path(path) as partial, partial.open("wb") as output:
        writer = kinds[path.suffix.lower()](output, bundle, tail, drawing)
        try:
            yield writer
        finally:
            writer.close()


def token_parquet(
    batches: Iterable[tuple[ClipBatch, NDArray[np.int32]]],
    bundle: Bundle,
    tail: Tail | None = None,
    drawing: DrawingRecord | None = None,
) -> tuple[bytes, int, TokenFileInfo]:
    """A Parquet file of tokens in memory, with the same bytes for the same clips.

    Args:
        batches: Clips with their tokens, at least one batch.
        bundle: What makes the tokens.
        tail: The rule for the last frames of a video, for the record.
        drawing: How trajectories are drawn, for the record.

    Returns:
        Its bytes, its rows, and what they are.

    Raises:
        InputError: Clips are of different sizes.
        MissingPackageError: pyarrow isn't installed.
    """
    output, rows = io.BytesIO(), 0
    writer = _ParquetWriter(output, bundle, tail, drawing)
    for batch, tokens in batches:
        writer.write(batch.ids, batch.labels, tokens, batch.places)
        rows += len(batch.ids)
    writer.close()
    return output.getvalue(), rows, writer.info


def read_tokens(place: Place) -> TokenTable:
    """Reads all tokens of a file, or of the folder of a finished run (about 5 KB a clip).

    Args:
        place: A .parquet or .npz file; or what `magvit tokenize -o FOLDER` wrote, a folder or the
            address of one (s3://…). Its parts are checked against its manifest.

    Raises:
        InputError: The place can't be read, holds no tokens, or not all that its manifest names;
            or it has a token that its quantizer doesn't make.
        MissingPackageError: It is Parquet and pyarrow isn't installed.
    """
    place = place_of(place) if isinstance(place, str) else place
    if isinstance(place, str) or place.is_dir():
        return read_token_folder(place)
    return read_token_file(place)


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
        self, output: IO[bytes], bundle: Bundle, tail: Tail | None, drawing: DrawingRecord | None
    ) -> None:
        self._arrow = import_pyarrow()
        self._bundle = bundle
        self._output = output
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
        self.info = token_file_info(self._bundle, grid, self._tail, self._drawing)
        described = arrow.schema(schema, {METADATA_KEY: msgspec.json.encode(self.info)})
        self._file = arrow.parquet.ParquetWriter(self._output, described, compression="zstd")


class _NpzWriter:
    def __init__(
        self, output: IO[bytes], bundle: Bundle, tail: Tail | None, drawing: DrawingRecord | None
    ) -> None:
        self._output = output
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
        np.savez(self._output, **arrays)


def _place_columns(places: tuple[VideoPlace, ...]) -> dict[str, list[Any]]:
    rows = [asdict(place) for place in places]
    return {field.name: [row[field.name] for row in rows] for field in fields(VideoPlace)}
