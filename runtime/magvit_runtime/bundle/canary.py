"""Canaries: a few items and what a role gives for them, so that a session can be tried in one run.

`magvit verify` keeps them, of the reference that it compared with, in one file for each role.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast, get_args

import msgspec
import numpy as np

from magvit_runtime.bundle.manifest import Canary, FileRecord, Kind, Role
from magvit_runtime.bundle.reading import Bundle, open_bundle
from magvit_runtime.bundle.writing import changing_bundle, write_manifest
from magvit_runtime.errors import BundleError
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.files.temporary import temporary_folder
from magvit_runtime.types import Array

# A canary is no larger.
CANARY_BYTES = 200_000
_GIVEN = "given"


@dataclass(frozen=True)
class CanaryItem:
    """One item.

    Attributes:
        name: What it is, for people.
        given: What the role takes, a batch of one.
        outputs: What it gives, by kind; likewise.
    """

    name: str
    given: Array
    outputs: Mapping[Kind, Array]


def read_canary(bundle: Bundle, role: Role) -> tuple[CanaryItem, ...]:
    """The canary of a role.

    Raises:
        BundleError: There is none, or its file is missing, was changed or is malformed.
    """
    mend = verify_command(bundle, role)
    canary = bundle.manifest.canaries.get(role)
    if canary is None:
        raise BundleError(f"{bundle.path} has no canary for {role}", mend=mend)
    path = bundle.verified_file(canary.file)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return tuple(_item(arrays, i, name) for i, name in enumerate(canary.items))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{path} holds no canary", found=error, mend=mend) from error


def write_canary(bundle: Bundle, role: Role, items: Iterable[CanaryItem], reference: str) -> bool:
    """Keeps the first items that have room as the canary of a role.

    Args:
        bundle: The bundle; its manifest is read again, so that additions by others stay.
        role: What gave the outputs.
        items: Items, the ones wanted most first. Floats are kept as float32.
        reference: What gave the outputs, for people.

    Returns:
        Whether any item had room.

    Raises:
        BundleError: The bundle is no longer sound.
        InputError: The directory can't be written to.
        MagvitError: The disk is full.
    """
    kept: list[CanaryItem] = []
    packed = b""
    for item in items:
        more = _pack([*kept, item])
        if len(more) <= CANARY_BYTES:
            kept, packed = [*kept, item], more
    if not kept:
        return False
    with changing_bundle(bundle.path), temporary_folder(bundle.path, "canary") as staging:
        path = staging / f"canary.{role}.npz"
        path.write_bytes(packed)
        manifest = open_bundle(bundle.path).manifest
        record = Canary(
            file=path.name,
            items=tuple(item.name for item in kept),
            reference=reference,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        written = FileRecord(len(packed), file_sha256(path))
        changed = msgspec.structs.replace(
            manifest,
            files={**manifest.files, path.name: written},
            canaries={**manifest.canaries, role: record},
        )
        write_manifest(bundle.path, changed, [path])
    return True


def verify_command(bundle: Bundle, role: Role) -> str:
    """The command that compares a role of a bundle with a reference."""
    return f"magvit verify {bundle.path}" + ("" if role == "encode" else f" --role {role}")


def _pack(items: Sequence[CanaryItem]) -> bytes:
    arrays: dict[str, Any] = {}
    for i, item in enumerate(items):
        arrays[f"{i}.{_GIVEN}"] = item.given
        for kind, values in item.outputs.items():
            is_float = values.dtype.kind == "f"
            arrays[f"{i}.{kind}"] = values.astype(np.float32) if is_float else values
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _item(arrays: Mapping[str, Array], index: int, name: str) -> CanaryItem:
    found = {kind: arrays.get(f"{index}.{kind}") for kind in get_args(Kind)}
    outputs = {kind: values for kind, values in found.items() if values is not None}
    return CanaryItem(name, arrays[f"{index}.{_GIVEN}"], cast(Mapping[Kind, Array], outputs))
