"""Writes bundles: every file is staged first, then moved into place, the manifest last."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from magvit_runtime.bundle.manifest import FileRecord, Manifest
from magvit_runtime.bundle.reading import MANIFEST_NAME, open_bundle, open_schema_one
from magvit_runtime.bundle.schema_one import SchemaOne
from magvit_runtime.bundle.writing import changing_bundle, refuse_store, write_manifest
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import naming_full_disks
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.files.locks import LOCK_FILE
from magvit_runtime.files.temporary import is_temporary, temporary_folder
from magvit_runtime.hub.fetching import refuse_hub

# What a folder may hold and still be empty: other writers' beginnings, and what mkfs leaves.
_NOTHING = (LOCK_FILE, "lost+found")


def existing_bundle(path: Path) -> Manifest | SchemaOne | None:
    """The manifest of the bundle in a folder; None where there is no folder, or nothing in it.

    Raises:
        InputError: There is something else, or a bundle that can't be changed.
        BundleError: The manifest is malformed, or of an unknown schema version.
    """
    refuse_hub(path)
    refuse_store(path)
    if (path / MANIFEST_NAME).is_file():
        return open_schema_one(path) or open_bundle(path).manifest
    if path.exists() and not (path.is_dir() and _is_empty(path)):
        raise InputError(f"{path} exists and is no bundle", mend="choose another -o")
    return None


@contextmanager
def staging_directory(bundle: Path) -> Iterator[Path]:
    """A directory on the bundle's own file system; gone when the block is left.

    It lies in the bundle, which may be a file system of its own (a mounted volume), or beside it
    where there is none yet. What killed processes left there is removed first.

    Raises:
        InputError: The folder can't be made or written to.
        MagvitError: The disk is full.
    """
    folder = bundle if bundle.is_dir() else bundle.parent
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = stack.enter_context(temporary_folder(folder, bundle.name))
        except OSError as error:
            raise InputError(f"can't write {bundle}", found=error.strerror) from error
        with naming_full_disks(bundle):
            yield path


def file_records(files: Iterable[Path]) -> dict[str, FileRecord]:
    """Size and digest of files, by their names, in order of the names."""
    return {
        path.name: FileRecord(path.stat().st_size, file_sha256(path))
        for path in sorted(files, key=lambda path: path.name)
    }


def publish(
    bundle: Path,
    staged: Iterable[Path],
    updated: Callable[[Manifest | SchemaOne | None], Manifest],
) -> None:
    """Moves staged files into a bundle and replaces its manifest, with no other writer between.

    Args:
        bundle: The bundle's directory; made where there is none.
        staged: Files in its `staging_directory`. They replace files of the same names.
        updated: The new manifest, which names all of the bundle's files, of the one that is there
            now: another writer may have added to it since this one began.

    Raises:
        InputError: The directory can't be written to.
    """
    is_new = not bundle.is_dir()
    try:
        bundle.mkdir(exist_ok=True)
        with changing_bundle(bundle):
            write_manifest(bundle, updated(existing_bundle(bundle)), staged)
    except FileExistsError as error:
        raise InputError(f"{bundle} is no folder", mend="choose another -o") from error
    finally:
        if is_new:
            with suppress(OSError):  # It stays where something was published.
                bundle.rmdir()


def software_versions() -> dict[str, str]:
    """Versions that decide what an export contains."""
    packages = ("magvit-runtime", "numpy", "onnx", "onnx-ir", "onnxscript", "torch")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def timestamp() -> str:
    """Now, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_empty(folder: Path) -> bool:
    return all(path.name in _NOTHING or is_temporary(path) for path in folder.iterdir())
