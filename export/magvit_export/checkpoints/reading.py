"""Reads checkpoints: a file becomes the state dict of a model, or an error that names the key.

No code of a pickle ever runs. Files are memory-mapped, so that only the tensors in use occupy
memory.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from magvit_export.checkpoints.containers import find_container
from magvit_export.checkpoints.errors import CheckpointError as CheckpointError
from magvit_export.checkpoints.finite import check_finite
from magvit_export.checkpoints.fitting import (
    Entry,
    Fit,
    choose_fit,
    find_bare,
    find_fits,
    list_entries,
    strangers,
)
from magvit_export.checkpoints.fitting import Spellings as Spellings
from magvit_export.checkpoints.fitting import Variant as Variant
from magvit_export.checkpoints.keys import EMA_PREFIX, ema_name
from magvit_export.checkpoints.shards import checkpoint_sha256, find_checkpoint, read_index
from magvit_export.checkpoints.stand_ins import RunsCodeError, load_with_stand_ins
from magvit_export.checkpoints.torch_files import torch_load
from magvit_runtime.errors import first_line

logger = logging.getLogger(__name__)

# What Python itself and every training loop put into pickles: no news to anyone.
_OWN_KINDS = ("builtins.", "collections.", "copyreg.", "torch.")
# Parts of names that tell one kind of model from the others.
_KINDS = (
    ("spatial_blocks.", "an autoregressive model", "open-magvit2-ar-b"),
    ("encoder.mid_block.", "a tokenizer of the family magvit", "open-magvit2-image-256"),
    ("encoder.mid.attn_1.", "a tokenizer of the family ibq", "ibq-1024"),
)
_OTHER_MODEL = "name the model (or --config) that the checkpoint was trained with"


@dataclass(frozen=True)
class LoadedWeights:
    """A model's weights, and where they came from.

    Attributes:
        state: Tensors by raw key, as the model names them.
        variant: Whether they are the moving average or the raw weights.
        sha256: Digest of the file, or of an index and its shards.
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
    passed_over: tuple[str, ...] = (),
) -> LoadedWeights:
    """Loads a model's weights from a pickle or safetensors, in one file or shards.

    Args:
        path: The checkpoint, the index of its shards, or the folder that holds one of these.
        shapes: Shape of every raw key of the model. A group of keys (`encoder`, `decoder`) that
            the file lacks altogether is left out of the result, unless it is needed.
        prefixes: The keys that are needed begin with one of these; None needs those of the groups
            that the file has, of which there must be one.
        spellings: Names under which a key may stand in the file. Whatever stands in front of all of
            them, and the entry of the file that they lie in, is found.
        variant: "ema" (the official inference weights) or "raw"; None takes EMA weights where the
            file has any, else raw ones, and says so in the log.
        passed_over: Beginnings of keys that published files hold and no model here needs.

    Raises:
        CheckpointError: The file is missing, truncated, no checkpoint or runs code; or a key is
            unknown, missing, of a wrong shape, not of a float type or not finite.
    """
    file = find_checkpoint(path)
    content = read_content(file)
    entries = list_entries(file, content)
    if not any(isinstance(entry.value, Tensor) for entry in entries):
        kinds = [f"{entry.name} ({type(entry.value).__name__})" for entry in entries]
        raise CheckpointError(
            f"{file} holds no state dict", found=_some(kinds) or type(content).__name__
        )
    fits = find_fits(entries, list(shapes), spellings)
    if not fits and (bare := find_bare(entries, shapes, spellings)):
        logger.warning("%s holds the keys of one part alone: read as %s", file, bare[0].name)
        entries, fits = bare, find_fits(bare, list(shapes), spellings)
    needed = _needed(shapes, prefixes, fits)
    chosen: Variant = variant or (
        "ema" if any(fit.variant == "ema" and fit.names.keys() & needed for fit in fits) else "raw"
    )
    fit = choose_fit(file, fits, needed, chosen)
    if fit is None:
        raise _nothing_fits(file, entries, fits, [key for key in shapes if key in needed], chosen)
    if unknown := strangers(entries, fit, fits, passed_over):
        raise CheckpointError(
            f"{file} holds keys that this model doesn't have",
            found=_some(map(_shown, unknown)),
            mend=f"{_OTHER_MODEL}, or save this model's keys alone",
        )
    values = {entry.name: entry.value for entry in entries}
    state = _select(file, values, shapes, needed, fit)
    check_finite({key: state[key] for key in sorted(needed)}, f"{file} ({chosen} weights)")
    _report(file, fit, fits, needed, asked=variant is not None)
    return LoadedWeights(state, chosen, checkpoint_sha256(path))


def holds_any(path: Path, keys: Iterable[str], spellings: Spellings) -> bool:
    """Whether a checkpoint holds any of a model's keys, wherever they lie in it.

    Raises:
        CheckpointError: It can't be read.
    """
    file = find_checkpoint(path)
    return bool(find_fits(list_entries(file, read_content(file)), list(keys), spellings))


def _needed(
    shapes: Iterable[str], prefixes: tuple[str, ...] | None, fits: Iterable[Fit]
) -> set[str]:
    """The keys of some prefixes; or of all groups that the file has any key of."""
    if prefixes is not None:
        return {key for key in shapes if key.startswith(prefixes)}
    groups = {key.split(".")[0] for fit in fits for key in fit.names}
    return {key for key in shapes if key.split(".")[0] in groups} or set(shapes)


def read_content(path: Path) -> object:
    """What a checkpoint file holds: dicts with tensors in them; no code of a pickle is run.

    Raises:
        CheckpointError: The file is truncated, no checkpoint, or runs code.
    """
    if find_container(path) != "index":
        return _read_file(path)
    content: dict[str, object] = {}
    for shard, names in read_index(path).items():
        part = _read_file(shard)
        if not isinstance(part, dict) or not names <= part.keys():
            raise CheckpointError(f"{shard} lacks tensors that {path.name} names in it")
        content |= {name: part[name] for name in names}
    return content


def _read_file(path: Path) -> object:
    container = find_container(path)
    if container == "index":
        raise CheckpointError(f"{path} is an index where a shard should be")
    try:
        if container == "safetensors":
            return load_file(path)
        return _unpickle(path, is_zip=container == "zip")
    except RunsCodeError as error:
        raise CheckpointError(
            f"{path} is a pickle that runs code when it is loaded, and none of it was run",
            found=error.name,
            mend="don't trust this file; take the checkpoint from its publisher",
        ) from error
    except Exception as error:  # Damage can make an unpickler fail in any way.
        text = first_line(error).split(". ")[0]
        raise CheckpointError(
            f"{path} can't be read: it is truncated or no checkpoint",
            # Torch's own text for pickles advises to read them unsafely; a lone key says nothing.
            found=None if "weights_only" in str(error) or " " not in text else text,
            mend="download it again",
        ) from error


def _unpickle(path: Path, *, is_zip: bool) -> object:
    try:
        return torch_load(path, is_zip=is_zip, weights_only=True)
    except pickle.UnpicklingError:  # There is more than tensors in it.
        content, named = load_with_stand_ins(path, is_zip=is_zip)
    if foreign := sorted(name for name in named if not name.startswith(_OWN_KINDS)):
        logger.warning(
            "%s holds more than tensors (%s): none of that was loaded or run", path, _some(foreign)
        )
    return content


def _select(
    path: Path,
    values: Mapping[str, object],
    shapes: Mapping[str, tuple[int, ...]],
    needed: set[str],
    fit: Fit,
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for key, name in fit.names.items():
        tensor = values[name]
        if not isinstance(tensor, Tensor):
            raise CheckpointError(
                f"{path}: entry {_shown(name)} is no tensor", found=type(tensor).__name__
            )
        if tuple(tensor.shape) != tuple(shapes[key]):
            raise CheckpointError(
                f"{path}: tensor {_shown(name)} has a wrong shape",
                found=list(tensor.shape),
                expected=list(shapes[key]),
                mend=_OTHER_MODEL,
            )
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"{path}: tensor {_shown(name)} is not of a float type", found=tensor.dtype
            )
        found[key] = tensor.float()
    groups = {key.split(".")[0] for key in found}
    missing = [
        key for key in shapes if key not in found and (key in needed or key.split(".")[0] in groups)
    ]
    if missing:
        raise CheckpointError(
            f"{path} lacks {len(missing)} {fit.variant} keys"
            + (f" under {fit.place}*" if _is_repaired(fit) else ""),
            found=f"{len(found)} of {len(shapes)}",
            expected=_some(ema_name(key) if _is_undotted(fit) else key for key in missing),
            mend="save the whole model: torch.save(model.state_dict(), 'model.pt')",
        )
    return {key: found[key] for key in shapes if key in found}


def _nothing_fits(
    path: Path, entries: list[Entry], fits: list[Fit], needed: list[str], variant: Variant
) -> CheckpointError:
    """Why no tensor is one of those that are needed."""
    names = [entry.name for entry in entries if isinstance(entry.value, Tensor)]
    other: Variant = "raw" if variant == "ema" else "ema"
    group, _, tail = needed[0].partition(".")
    tails = {key.partition(".")[2] for key in needed if key.startswith(f"{group}.")}
    prefixes = [name.removesuffix(needed[0]) for name in names if name.endswith(needed[0])]
    if any(fit.variant == other and fit.names.keys() & set(needed) for fit in fits):
        mend = f"use --variant {other}"
    elif prefixes:
        mend = (
            f"save them without {prefixes[0]!r}: torch.save("
            f"{{key.removeprefix({prefixes[0]!r}): value for key, value in state.items()}}, "
            "'model.pt')"
        )
    elif any(name.endswith(tail) for name in names) or 2 * len(
        tails.intersection(map(_shown, names))
    ) > len(tails):
        mend = f"save the state dict of the whole model, whose keys begin with {group + '.'!r}"
    else:
        mend = _OTHER_MODEL
    what = f"{path} lacks {len(needed)} {variant} keys"
    for part, kind, model in _KINDS:
        if any(part in name for name in names) and not any(part in key for key in needed):
            what = f"{path} is a checkpoint of {kind}, and lacks all {len(needed)} keys of this one"
            mend = f"give it to a model of its own kind, as {model}"
    return CheckpointError(what, found=_some(names), expected=_some(needed), mend=mend)


def _is_undotted(fit: Fit) -> bool:
    """Whether it is the reference's EMA, whose names have no dots."""
    return fit.place != fit.base


def _inner_levels(fit: Fit) -> str | None:
    """A name with levels that training tools put between the model's own."""
    for key, name in fit.names.items():
        inside = name.removeprefix(fit.place)
        if inside.count(".") > key.count(".") or "_orig_mod" in inside:
            return name
    return None


def _report(path: Path, fit: Fit, fits: list[Fit], needed: set[str], *, asked: bool) -> None:
    """Says in the log what was chosen, and what was passed over to find it."""
    if fit.variant == "raw" and not asked:
        logger.warning("%s has no EMA weights: its raw weights are used", path)
    odd = _inner_levels(fit)
    left = [
        f"{other.place}*"
        for other in fits
        # The reference's EMA and raw weights belong together, and are no news.
        if other.base != fit.base and other.names.keys() >= needed
    ]
    if odd or left or _is_repaired(fit):
        logger.warning(
            "%s: the %s weights are read from %s%s",
            path,
            fit.variant,
            f"keys such as {odd}" if odd else f"{fit.place}*",
            f"; those of {_some(left)} are left" if left else "",
        )


def _is_repaired(fit: Fit) -> bool:
    """Whether the keys lie elsewhere than in the reference's own files."""
    return fit.place.removeprefix("state_dict.") not in ("", EMA_PREFIX)


def _shown(name: str) -> str:
    """A name as people know it from the model."""
    return name.removeprefix("state_dict.")


def _some(names: Iterable[str], count: int = 3) -> str:
    names = list(names)
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest} more" if rest > 0 else "")
