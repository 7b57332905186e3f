"""What a PyTorch reference gave, kept for the next time: minutes of work for a few hundred kB."""

from __future__ import annotations

import hashlib
import importlib
import os
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import numpy as np

from magvit_runtime.agreement import Outputs
from magvit_runtime.errors import MagvitError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.types import Array

# What PyTorch computes in; "auto" is the most precise type that it can be waited for.
ReferenceType = Literal["auto", "float32", "float64"]

FOLDER_VARIABLE = "MAGVIT_CACHE_DIR"
# Of all files together; the ones used longest ago go first.
LARGEST_BYTES = 512 * 2**20


@dataclass(frozen=True)
class ReferenceCache:
    """Outputs of one reference by its items, each in a file of its own.

    What can't be read or written counts as absent: the reference runs then.

    Attributes:
        folder: Where the files of all references lie.
        identity: All that the outputs depend on besides the item.
    """

    folder: Path
    identity: Mapping[str, Any]

    def get(self, item: Array) -> Outputs | None:
        """What the reference gave for an item [1, ...]; None if it isn't known."""
        path = self._path(item)
        try:
            with np.load(path, allow_pickle=False) as file:
                outputs = {name: file[name] for name in file.files}  # zip's CRC is checked.
            path.touch()
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
            return None
        return cast(Outputs, outputs)

    def knows(self, item: Array) -> bool:
        """Whether an item is known."""
        return self._path(item).is_file()

    def put(self, item: Array, outputs: Outputs) -> None:
        """Keeps what the reference gave for an item."""
        with suppress(MagvitError, OSError):
            path = self._path(item)
            with atomic_path(path) as partial, partial.open("wb") as file:
                np.savez(file, allow_pickle=False, **{str(kind): x for kind, x in outputs.items()})
            self._make_room()

    def _path(self, item: Array) -> Path:
        digest = hashlib.sha256(msgspec.json.encode(self.identity, order="deterministic"))
        digest.update(f"{item.dtype} {item.shape}".encode())
        digest.update(np.ascontiguousarray(item).tobytes())
        return self.folder / f"{digest.hexdigest()}.npz"

    def _make_room(self) -> None:
        files = [(path.stat(), path) for path in self.folder.glob("*.npz")]
        files.sort(key=lambda pair: pair[0].st_mtime)
        excess = sum(stat.st_size for stat, _ in files) - LARGEST_BYTES
        for stat, path in files:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= stat.st_size


def cache_folder() -> Path:
    """Where references keep their outputs: in `MAGVIT_CACHE_DIR`, else the user's cache folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen) / "references"
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "magvit" / "references"


def source_digest(*modules: str) -> str:
    """Digest of the source of the packages that some modules belong to: all of theirs.

    A reference that was changed must not be taken for the one that gave the outputs.
    """
    digest = hashlib.sha256()
    for name in sorted({module.partition(".")[0] for module in modules}):
        file = importlib.import_module(name).__file__
        assert file is not None  # Packages that hold families are no namespaces.
        root = Path(file).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()
