"""Files of tokens: one row a clip, and what the tokens mean in the file's own metadata."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.hardware.packages import missing_package
from magvit_runtime.quantizers.specs import QuantizerSpec
from magvit_runtime.quantizers.vocabulary import check_ids

METADATA_KEY = b"magvit"
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


class TokenFileInfo(msgspec.Struct, frozen=True):
    """What the tokens of a file are.

    Attributes:
        model: Model that made them.
        weights: Source and name of its weights. "seeded…": generated, never trained.
        weights_sha256: Digest of the checkpoint; None for seeded weights.
        quantizer: What an id means.
        grid: Tokens a clip: [t, h, w], or [h, w] for images.
    """

    model: str
    weights: str
    weights_sha256: str | None
    quantizer: QuantizerSpec
    grid: tuple[int, ...]


@dataclass(frozen=True)
class TokenTable:
    """The tokens of N clips.

    Attributes:
        info: What they are.
        ids: Name of each clip.
        labels: Class of each clip, where it is known.
        tokens: int32 [N, *grid].
    """

    info: TokenFileInfo
    ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    tokens: NDArray[np.int32]


class TokenWriter(Protocol):
    """Takes one batch of tokens after another."""

    def write(
        self, ids: tuple[str, ...], labels: tuple[str | None, ...], tokens: NDArray[np.int32]
    ) -> None:
        """Appends clips; tokens are int32 [N, *grid], of one grid throughout a file."""

    def close(self) -> None:
        """Ends the file."""


def token_file_info(bundle: Bundle, grid: tuple[int, ...]) -> TokenFileInfo:
    """Describes tokens that a bundle's encoder made."""
    manifest = bundle.manifest
    weights = manifest.component.weights
    name = weights.name if bundle.is_seeded else f"{weights.source} {weights.name}"
    return TokenFileInfo(manifest.model, name, weights.sha256, bundle.tokens.quantizer, grid)


@contextmanager
def token_writer(path: Path, bundle: Bundle) -> Iterator[TokenWriter]:
    """Opens a token file for writing; the file appears when the block ends without an error.

    Args:
        path: .parquet (streams, needs pyarrow) or .npz (held in memory until the end).
        bundle: What makes the tokens.

    Raises:
        InputError: The file's kind is unknown, or it can't be written.
        MissingPackageError: pyarrow isn't installed.
    """
    kinds: dict[str, Callable[[Path, Bundle], TokenWriter]] = {
        ".parquet": _ParquetWriter,
        ".npz": _NpzWriter,
    }
    if path.suffix.lower() not in kinds:
        raise InputError(f"{path} is of an unknown kind", expected=" or ".join(kinds))
    with atomic_path(path) as partial:
        writer = kinds[path.suffix.lower()](partial, bundle)
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
    check_ids(f"tokens in {path}", table.tokens, table.info.quantizer)
    return table


class _ParquetWriter:
    def __init__(self, path: Path, bundle: Bundle) -> None:
        self._arrow = _pyarrow()
        self._bundle = bundle
        # Opened here: pyarrow takes no name that isn't UTF-8.
        self._output = path.open("wb")
        self._file: Any = None

    def write(
        self, ids: tuple[str, ...], labels: tuple[str | None, ...], tokens: NDArray[np.int32]
    ) -> None:
        arrow = self._arrow
        if self._file is None:
            info = token_file_info(self._bundle, tokens.shape[1:])
            fields = {"id": arrow.string(), "label": arrow.string()}
            fields["tokens"] = arrow.list_(arrow.int32(), math.prod(info.grid))
            schema = arrow.schema(fields, {METADATA_KEY: msgspec.json.encode(info)})
            self._file = arrow.parquet.ParquetWriter(self._output, schema, compression="zstd")
        flat = arrow.array(np.ascontiguousarray(tokens).reshape(-1))
        lists = arrow.FixedSizeListArray.from_arrays(flat, math.prod(tokens.shape[1:]))
        columns = [arrow.array(ids, arrow.string()), arrow.array(labels, arrow.string()), lists]
        self._file.write_batch(arrow.record_batch(columns, schema=self._file.schema))

    def close(self) -> None:
        with self._output:
            if self._file is not None:
                self._file.close()


class _NpzWriter:
    def __init__(self, path: Path, bundle: Bundle) -> None:
        self._path = path
        self._bundle = bundle
        self._rows: list[tuple[str, str | None, NDArray[np.int32]]] = []

    def write(
        self, ids: tuple[str, ...], labels: tuple[str | None, ...], tokens: NDArray[np.int32]
    ) -> None:
        self._rows.extend(zip(ids, labels, tokens, strict=True))

    def close(self) -> None:
        if not self._rows:
            return
        ids, labels, tokens = zip(*self._rows, strict=True)
        info = token_file_info(self._bundle, tokens[0].shape)
        with self._path.open("wb") as file:
            np.savez(
                file,
                id=np.array(ids),
                label=np.array([label or "" for label in labels]),
                tokens=np.stack(tokens),
                info=np.frombuffer(msgspec.json.encode(info), np.uint8),
            )


def _read_parquet(path: Path) -> TokenTable:
    arrow = _pyarrow()
    with path.open("rb") as file:
        table = arrow.parquet.read_table(file)
    info = msgspec.json.decode(table.schema.metadata[METADATA_KEY], type=TokenFileInfo)
    lists = table["tokens"].combine_chunks()
    tokens = lists.values.to_numpy().reshape(-1, *info.grid)
    return TokenTable(
        info, tuple(table["id"].to_pylist()), tuple(table["label"].to_pylist()), tokens
    )


def _read_npz(path: Path) -> TokenTable:
    with np.load(path, allow_pickle=False) as arrays:
        info = msgspec.json.decode(arrays["info"].tobytes(), type=TokenFileInfo)
        labels = tuple(label or None for label in arrays["label"].tolist())
        return TokenTable(info, tuple(arrays["id"].tolist()), labels, arrays["tokens"])


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise missing_package("pyarrow", "a Parquet file (unlike .npz)") from error
    return pa
