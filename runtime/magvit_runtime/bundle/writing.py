"""Changes to a bundle: one writer at a time, and the manifest last."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from magvit_runtime.bundle.content_store import MANIFEST_NAME, store_of
from magvit_runtime.bundle.manifest import Manifest
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.files.locks import folder_lock


@contextmanager
def changing_bundle(bundle: Path) -> Iterator[None]:
    """Holds a bundle against other writers. Its manifest is to be read in the block, not before.

    Raises:
        InputError: It can't be written to.
    """
    refuse_store(bundle)
    with folder_lock(bundle):
        yield


def refuse_store(bundle: Path) -> None:
    """Refuses to change a bundle whose files are links into a store.

    A manifest of its own beside links would be neither one's; and a store is others' too.

    Raises:
        InputError: It is such a bundle.
    """
    store = store_of(bundle)
    if store is not None:
        raise InputError(
            f"{bundle} can't be changed: its files are links into {store}",
            mend=f"change a copy: cp -rL {shlex.quote(str(bundle))} COPY",
        )


def write_manifest(bundle: Path, manifest: Manifest, files: Iterable[Path] = ()) -> None:
    """Moves files into a bundle and replaces its manifest; to be called in `changing_bundle`.

    Args:
        bundle: The bundle's directory.
        manifest: The new manifest, which names all of the bundle's files.
        files: Files on the same file system. They replace files of the same names.

    Raises:
        InputError: The directory can't be written to.
        MagvitError: The disk is full; nothing was moved.
    """
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    with atomic_path(bundle / MANIFEST_NAME) as partial:
        partial.write_bytes(text)
        for path in files:
            path.replace(bundle / path.name)
