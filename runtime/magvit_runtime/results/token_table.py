"""What files of tokens hold, and how it is read: one row a clip, and what the tokens mean."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.clips.batches import VideoPlace
from magvit_runtime.clips.video import Tail
from magvit_runtime.errors import InputError
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


def read_token_file(path: Path) -> TokenTable:
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
