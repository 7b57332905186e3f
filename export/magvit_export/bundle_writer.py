"""Writes bundles: every file beside its place first, then renamed, the manifest last."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from magvit_runtime.bundle import write_manifest
from magvit_runtime.errors import InputError
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.manifest import FileRecord, Manifest


@contextmanager
def staging_directory(bundle: Path) -> Iterator[Path]:
    """A directory beside the bundle's, on the same file system; gone when the block is left.

    Raises:
        InputError: The bundle's folder can't be made.
    """
    try:
        bundle.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't write {bundle}", found=error.strerror) from error
    with TemporaryDirectory(dir=bundle.parent, prefix=f".{bundle.name}.") as path:
        yield Path(path)


def file_records(files: Iterable[Path]) -> dict[str, FileRecord]:
    """Size and digest of files, by their names, in order of the names."""
    return {
        path.name: FileRecord(path.stat().st_size, file_sha256(path))
        for path in sorted(files, key=lambda path: path.name)
    }


def publish(bundle: Path, staged: Iterable[Path], manifest: Manifest) -> None:
    """Moves staged files into a bundle, then replaces its manifest.

    Args:
        bundle: The bundle's directory; made where there is none.
        staged: Files on the same file system. They replace files of the same names.
        manifest: The new manifest, which names all of the bundle's files.
    """
    bundle.mkdir(exist_ok=True)
    for path in staged:
        path.replace(bundle / path.name)
    write_manifest(bundle, manifest)


def software_versions() -> dict[str, str]:
    """Versions that decide what an export contains."""
    packages = ("magvit-runtime", "numpy", "onnx", "onnx-ir", "onnxscript", "torch")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def timestamp() -> str:
    """Now, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
