"""Checkpoints of several files: an index names, for each tensor, the file that it lies in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from magvit_export.checkpoints.containers import find_container
from magvit_export.checkpoints.errors import CheckpointError
from magvit_runtime.files.digests import file_sha256

# The names of transformers, in its own order; its folders also hold optimizers and other copies.
_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# The hub's names, the one taken first where a folder holds both.
_INDEXES = ("*.safetensors.index.json", "*.bin.index.json")
_FILES = ("*.safetensors", "*.bin", "*.ckpt", "*.pt", "*.pth")


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def find_checkpoint(path: Path) -> Path:
    """The file to read: what was given, or what a folder holds.

    Raises:
        CheckpointError: There is none, or a folder holds several.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"checkpoint {path} is no file")
    for name in _NAMES:
        if (path / name).is_file():
            return path / name
    for pattern in (*_INDEXES, "*"):
        found = sorted(path.glob(pattern))
        if pattern == "*":
            found = [file for file in found if any(file.match(name) for name in _FILES)]
        if len(found) == 1:
            return found[0]
        if found:
            raise CheckpointError(
                f"{path} holds several checkpoints",
                found=", ".join(file.name for file in found[:5]),
                mend="give one of them to --weights",
            )
    raise CheckpointError(
        f"{path} is a folder without a checkpoint",
        expected=f"an index ({_INDEXES[0]}) or one of {', '.join(_FILES)}",
        mend="give the file to --weights",
    )


def read_index(path: Path) -> dict[Path, frozenset[str]]:
    """The shards that an index names, and the tensors that each of them holds.

    Raises:
        CheckpointError: It is no index, or a shard isn't beside it.
    """
    try:
        names = msgspec.json.decode(path.read_bytes(), type=_Index).weight_map
    except msgspec.MsgspecError as error:
        raise CheckpointError(
            f"{path} is JSON, and no index of a checkpoint's shards",
            found=str(error),
            mend="give the checkpoint itself to --weights",
        ) from error
    shards: dict[Path, frozenset[str]] = {}
    for name in sorted(set(names.values())):
        # Shards lie beside their index; a name with a folder in it could be any file.
        shard = path.parent / name
        if Path(name).name != name:
            raise CheckpointError(f"{path} names a shard that isn't beside it", found=name)
        if not shard.is_file():
            raise CheckpointError(
                f"{path} names the shard {name}, which is missing",
                mend="download it into the same folder",
            )
        shards[shard] = frozenset(key for key, value in names.items() if value == name)
    if not shards:
        raise CheckpointError(f"{path} names no shards")
    return shards


def checkpoint_sha256(path: Path) -> str:
    """Hex digest of a checkpoint: of its file, or of its index's and its shards' digests.

    Raises:
        CheckpointError: There is no such checkpoint, or a shard is missing.
    """
    file = find_checkpoint(path)
    if find_container(file) != "index":
        return file_sha256(file)
    digests = [file_sha256(part) for part in (file, *read_index(file))]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
