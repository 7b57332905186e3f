"""What a file is, by its first bytes: its name says nothing that can be relied on."""

from __future__ import annotations

import codecs
import json
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

from magvit_export.checkpoints.errors import CheckpointError

Container = Literal["zip", "pickle", "safetensors", "index"]

_HEAD = 4096
_DOWNLOAD = "download the checkpoint itself"
_SAVE = "save the PyTorch model's state dict: torch.save(model.state_dict(), 'model.pt')"
_UNPACK = "unpack it, and give the checkpoint in it"
# Files that are taken for checkpoints, by their first bytes: what they are, and what to do.
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "compressed with gzip", "gunzip it"),
    (b"BZh", "compressed with bzip2", "bunzip2 it"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unxz it"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "unzstd it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)", _SAVE),
    (b"GGUF", "a GGUF file", "give the PyTorch checkpoint that it was made of"),
    (b"\x93NUMPY", "a NumPy array", _SAVE),
    (b"%PDF", "a PDF document", _DOWNLOAD),
)
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_WEB_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head)", re.IGNORECASE)


def find_container(path: Path) -> Container:
    """How a checkpoint file is written.

    Returns:
        "zip": torch.save's form since 1.6. "pickle": its older form, or another pickle.
        "safetensors". "index": the JSON that names the shards of a checkpoint.

    Raises:
        CheckpointError: It is something else; the error says what, where that can be told.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    size = path.stat().st_size
    if not head:
        raise CheckpointError(f"{path} is empty", mend="download it again")
    if head.startswith(b"PK\x03\x04"):
        _check_zip(path)
        return "zip"
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors"
    for start, kind, mend in _OTHERS:
        if head.startswith(start):
            raise CheckpointError(f"{path} is {kind}, no checkpoint", mend=mend)
    # Torch's oldest files are archives of this kind too; its restricted reader refuses them.
    if _is_tar(path):
        raise CheckpointError(f"{path} is a tar archive, no checkpoint", mend=_UNPACK)
    _check_text(path, head)
    return "index" if head.lstrip().startswith(b"{") else "pickle"


def _check_zip(path: Path) -> None:
    """Refuses zip archives that are whole, and none of torch.save's."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        return  # The reader says that it is damaged.
    ends = {name.rsplit("/", 1)[-1] for name in names}
    if "constants.pkl" in ends:
        raise CheckpointError(
            f"{path} is a TorchScript program, no checkpoint",
            mend="save the state dict where you trust it: "
            "torch.save(torch.jit.load(path).state_dict(), 'model.pt')",
        )
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(f"{path} holds NumPy arrays, no checkpoint", mend=_SAVE)
    if "data.pkl" not in ends:
        raise CheckpointError(
            f"{path} is a zip archive of other files, no checkpoint",
            found=", ".join(names[:3]) or "no files",
            mend=_UNPACK,
        )


def _is_tar(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:") as archive:
            return archive.next() is not None  # Zeros alone are an archive of nothing.
    except (tarfile.TarError, OSError, EOFError, ValueError):
        return False


def _check_text(path: Path, head: bytes) -> None:
    """Refuses text other than a JSON object: pages and pointers that were saved by mistake."""
    text = head.removeprefix(codecs.BOM_UTF8)
    if text.startswith(_LFS_POINTER):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file that it stands for",
            mend="git lfs pull, or " + _DOWNLOAD,
        )
    if _WEB_PAGE.match(text):
        raise CheckpointError(f"{path} is a web page, no checkpoint", mend=_DOWNLOAD)
    if text.lstrip().startswith(b"{"):
        try:
            json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            raise CheckpointError(f"{path} is text, no checkpoint", mend=_DOWNLOAD) from None
        return
    if _is_text(text) and not _ends_as_pickle(path):
        first = text.decode("utf-8", "replace").splitlines()[0]
        raise CheckpointError(
            f"{path} is text, no checkpoint", found=repr(first[:60]), mend=_DOWNLOAD
        )


def _is_text(head: bytes) -> bool:
    try:
        # The last character may be cut.
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in head)


def _ends_as_pickle(path: Path) -> bool:
    """Pickles of protocol 0 are text too, and end in a dot."""
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"."
