"""Reads checkpoints: a file becomes the state dict of a model, or an error that names the key.

Pickles are read with `weights_only=True` (their code never runs) and memory-mapped, so that only
the tensors in use occupy memory.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from magvit_export.checkpoints.keys import EMA_PREFIX, ema_name, is_training_only
from magvit_runtime.errors import MagvitError, first_line
from magvit_runtime.files.digests import file_sha256

Variant = Literal["ema", "raw"]
# Names under which a key may stand in a file, the reference's own first.
Spellings = Callable[[str], tuple[str, ...]]

logger = logging.getLogger(__name__)

# How torch's restricted unpickler names a function or class that it refuses.
_PICKLED_CODE = re.compile(r"GLOBAL ([\w.]+)")


class CheckpointError(MagvitError):
    """A checkpoint can't be read, or its keys or shapes are not those of the model."""


@dataclass(frozen=True)
class LoadedWeights:
    """A model's weights, and where they came from.

    Attributes:
        state: Tensors by raw key, as the model names them.
        variant: Whether they are the moving average or the raw weights.
        sha256: Digest of the file.
    """

    state: dict[str, Tensor]
    variant: Variant
    sha256: str


def load_weights(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    prefixes: tuple[str, ...] | None,
    spellings: Spellings,
    variant: Variant | None = None,
) -> LoadedWeights:
    """Loads a model's weights from a `.ckpt`/`.pt`/`.pth` pickle or a `.safetensors` file.

    Args:
        path: The checkpoint.
        shapes: Shape of every raw key of the model. A group of keys (`encoder`, `decoder`) that
            the file lacks altogether is left out of the result, unless it is needed.
        prefixes: The keys that are needed begin with one of these; None needs those of the groups
            that the file has, of which there must be one.
        spellings: Names under which a key may stand in the file.
        variant: "ema" (the official inference weights) or "raw"; None takes EMA weights where the
            file has any, else raw ones, and says so in the log.

    Raises:
        CheckpointError: The file is missing, truncated, no checkpoint or holds code; or a key is
            unknown, missing, of a wrong shape or not of a float type.
    """
    tensors = read_tensors(path)
    known = {name for key in shapes for raw in spellings(key) for name in (raw, ema_name(raw))}
    unknown = sorted(key for key in tensors if key not in known and not is_training_only(key))
    if unknown:
        raise CheckpointError(
            f"{path} holds keys that this model doesn't have",
            found=_some(unknown),
            mend="name the model (or --config) that the checkpoint was trained with",
        )
    if variant is None:
        has_ema = any(key.startswith(EMA_PREFIX) and not is_training_only(key) for key in tensors)
        variant = "ema" if has_ema else "raw"
        if variant == "raw":
            logger.warning("%s has no EMA weights: its raw weights are used", path)
    state = _select(path, tensors, shapes, prefixes, spellings, variant)
    return LoadedWeights(state, variant, file_sha256(path))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint file by their names there; no code of a pickle is run.

    Raises:
        CheckpointError: The file is missing, truncated, no checkpoint, or holds code.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} is no file")
    try:
        if path.suffix == ".safetensors":
            content: object = load_file(path)
        else:
            content = _unpickle(path)
    except Exception as error:  # Damage can make an unpickler fail in any way.
        if code := _PICKLED_CODE.search(str(error)):
            raise CheckpointError(
                f"{path} is a pickle with more than tensors in it, and its code is never run",
                found=code[1],
                mend="save the bare state dict, or convert it to .safetensors where you trust it",
            ) from error
        raise CheckpointError(
            f"{path} can't be read: it is truncated or no checkpoint",
            # Torch's own text for pickles advises to read them unsafely.
            found=None if "weights_only" in str(error) else first_line(error),
            mend="download it again",
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} holds no state dict", found=type(content).__name__)
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: entry {key!r} of the state dict is no tensor",
                found=type(value).__name__,
            )
    return content


def _unpickle(path: Path) -> object:
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    # Files from before torch 1.6 aren't zip archives and can't be memory-mapped.
    return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _select(
    path: Path,
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    prefixes: tuple[str, ...] | None,
    spellings: Spellings,
    variant: Variant,
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    missing: list[str] = []
    for key, shape in shapes.items():
        names = [ema_name(raw) if variant == "ema" else raw for raw in spellings(key)]
        name = next((name for name in names if name in tensors), None)
        if name is None:
            missing.append(names[0])
            continue
        tensor = tensors[name]
        if tuple(tensor.shape) != tuple(shape):
            raise CheckpointError(
                f"{path}: tensor {name} has a wrong shape",
                found=list(tensor.shape),
                expected=list(shape),
                mend="name the model (or --config) that the checkpoint was trained with",
            )
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"{path}: tensor {name} is not of a float type", found=tensor.dtype
            )
        found[key] = tensor.float()
    groups = {key.split(".")[0] for key in found}
    if not groups:
        prefixes = prefixes or ("",)
    needed = {
        key for key in shapes if key.startswith(prefixes or ()) or key.split(".")[0] in groups
    } - found.keys()
    if needed:
        raise CheckpointError(
            f"{path} lacks {len(needed)} {variant} keys",
            found=f"{len(found)} of {len(shapes)}",
            expected=_some(missing),
            mend="use --variant raw" if variant == "ema" and not found else None,
        )
    return found


def _some(names: Iterable[str], count: int = 3) -> str:
    names = list(names)
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest} more" if rest > 0 else "")
