"""A reference that is a file: clips, and what something else computed of them."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.agreement import Outputs
from magvit_runtime.bundle.manifest import Kind
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.errors import InputError
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.files.names import as_text
from magvit_runtime.quantizers import sign_bits
from magvit_runtime.verification.references import Clips, Reference

Arrays = Mapping[str, NDArray[Any]]


def stored_reference(bundle: Bundle, path: Path) -> Reference:
    """Clips and what belongs to them from an npz file, of the weights that a bundle was made of.

    For each case the file holds the clips, `CASE.x` (or one `x` for all cases): uint8
    [N, T, H, W, 3], or [N, H, W, 3] for images; and their latents, `CASE.z_ema` for bundles of EMA
    weights, `CASE.z_raw` for those of raw or seeded ones: float [N, bits, t, h, w] or
    [N, bits, h, w]. Where the bundle's ids are rows of a codebook, it holds ids and margins in
    place of latents: `CASE.ids_ema` and `CASE.margins_ema`, or likewise raw, [N, ..., h, w]; the
    margin is the best score less the second best. Where `weights` is there, it is the sha256 of
    the checkpoint. Where `meta` is, it is JSON with the architecture in `config`, or in `config` by
    case; cases of another architecture than the bundle's are passed over.

    Args:
        bundle: The bundle.
        path: The npz file; it is loaded whole, and never unpickled.

    Raises:
        InputError: The file can't be read, is of other weights, or has no case of this bundle.
    """
    bits = sign_bits(bundle.tokens.quantizer)
    names: dict[Kind, str]
    names = {"ids": "ids", "margins": "margins"} if bits is None else {"latents": "z"}
    arrays = _load(path)
    weights = bundle.manifest.component.weights
    variant = "ema" if weights.variant == "ema" else "raw"
    stated = str(arrays["weights"]) if "weights" in arrays else weights.sha256
    if stated != weights.sha256:
        raise InputError(
            f"the {' and '.join(names)} in {path} are of other weights than {bundle.path}",
            found=f"sha256 {stated}",
            expected=f"{weights.sha256 or 'none'} ({weights.name})",
        )
    endings = {kind: f".{name}_{variant}" for kind, name in names.items()}
    known: dict[bytes, Outputs] = {}
    clips: list[Clips] = []
    for case in _cases(path, arrays, endings, bundle):
        frames = arrays.get(f"{case}.x", arrays.get("x"))
        values = {kind: arrays[f"{case}{ending}"] for kind, ending in endings.items()}
        if frames is None or not all(
            _belong_together(frames, array, kind, bits) for kind, array in values.items()
        ):
            found = [a for a in (frames, *values.values()) if a is not None]
            raise InputError(
                f"{path}: {case} has no clips with {' and '.join(names)}",
                found=[f"{a.dtype} {list(a.shape)}" for a in found],
                expected="uint8 [N, ..., 3], integers [N, ...] and float [N, ...]"
                if bits is None
                else "uint8 [N, ..., 3] and float [N, bits, ...]",
            )
        clips.append((tuple(f"{case} {i}" for i in range(len(frames))), frames))
        known |= {
            _digest(clip): {kind: array[i] for kind, array in values.items()}
            for i, clip in enumerate(frames)
        }

    def stored(frames: NDArray[np.uint8]) -> Outputs:
        found = [known[_digest(clip)] for clip in frames]
        return {kind: np.stack([one[kind] for one in found]) for kind in names}

    what = f"{' and '.join(names)} of {variant} weights"
    name = f"{what} in {as_text(path.name)}, sha256 {file_sha256(path)}"
    return Reference(name, stored, {}, clips=tuple(clips))


def _load(path: Path) -> Arrays:
    try:
        # np.load would also read other formats, and return members that hold no array as bytes.
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    except (
        *(zipfile.BadZipFile, zlib.error, OSError, EOFError),
        *(RuntimeError, MemoryError, ValueError),
    ) as error:
        raise InputError(
            f"{path} can't be read as npz",
            found=error,
            mend="write it again with numpy.savez, as arrays of numbers or text",
        ) from error


def _cases(path: Path, arrays: Arrays, endings: Mapping[Kind, str], bundle: Bundle) -> list[str]:
    """Names of the cases of a bundle's weights and architecture that have all that is wanted."""
    first, *others = endings.values()
    try:
        meta = json.loads(str(arrays["meta"])) if "meta" in arrays else {}
        config = dict(meta.get("config", {}))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: `meta` is no JSON with a config", found=error) from error
    ours = bundle.manifest.component.config
    cases = []
    for name in arrays:
        case = name.removesuffix(first)
        theirs = config.get(case, config)
        if case == name or not all(f"{case}{ending}" in arrays for ending in others):
            continue
        if all(ours.get(key, value) == value for key, value in theirs.items()):
            cases.append(case)
    if not cases:
        wanted = " and ".join(f"CASE{ending}" for ending in (".x", *endings.values()))
        raise InputError(
            f"{path} has no case of the architecture and weights of {bundle.path}",
            found=", ".join(sorted(arrays)),
            expected=f"{wanted}, of {bundle.manifest.model}",
        )
    return cases


def _belong_together(
    frames: NDArray[Any], values: NDArray[Any], kind: Kind, bits: int | None
) -> bool:
    """Whether an array can be of these clips; latents have an axis of channels, the others none."""
    has_channels = kind == "latents"
    return (
        frames.dtype == np.uint8
        and frames.ndim in (4, 5)
        and frames.shape[-1] == 3
        and values.dtype.kind in ("iu" if kind == "ids" else "f")
        and values.ndim == frames.ndim - (not has_channels)
        and values.shape[: 1 + has_channels] == ((len(frames), bits)[: 1 + has_channels])
        and values.size > 0
    )


def _digest(clip: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(f"{clip.shape}".encode() + clip.tobytes()).digest()
