"""Addresses of bundles on the Hugging Face hub.

    hf://OWNER/NAME                        the repository's main branch
    hf://OWNER/NAME@REVISION               a branch, tag or commit; refs/pr/1 too
    hf://OWNER/NAME@REVISION/FOLDER/…      a bundle in a folder of the repository

The form is the hub's own (`HfFileSystem` in huggingface_hub): a slash in a branch's name is %2F.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from magvit_runtime.errors import InputError

SCHEME = "hf://"

# Compiled where they are used: `import magvit_runtime` should cost little.
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REPOSITORY = f"{_NAME}/{_NAME}"
# `refs/…` are the hub's own names, whose slashes need no %2F.
_REST = (
    r"(?P<repository>[^/@]*/[^/@]*)"
    r"(?:@(?P<revision>refs/(?:pr/\d+|convert/[\w.-]+)(?=/|$)|[^/]*))?"
    r"(?:/(?P<folder>.*))?"
)
_COMMIT = r"[0-9a-f]{40}"
_SNAPSHOT = (
    rf"(?s).*/models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<commit>{_COMMIT})"
    r"(?:/(?P<folder>.*))?"
)


@dataclass(frozen=True)
class HubAddress:
    """Where a bundle is on the hub.

    Attributes:
        repository: OWNER/NAME.
        revision: Branch, tag or commit; None is the main branch.
        folder: The bundle's folder in the repository; "" is the repository itself.
    """

    repository: str
    revision: str | None = None
    folder: str = ""

    def __str__(self) -> str:
        revision = self.revision or ""
        if not revision.startswith("refs/"):
            revision = quote(revision, safe="")
        return (
            f"{SCHEME}{self.repository}"
            + (f"@{revision}" if revision else "")
            + (f"/{self.folder}" if self.folder else "")
        )


def is_address(place: str | Path) -> bool:
    """Whether a place is on the hub. A `Path` of an address has lost one of its slashes."""
    return str(place).startswith((SCHEME, "hf:/"))


def parse_address(text: str | Path) -> HubAddress:
    """Reads an address, with or without `hf://`.

    Raises:
        InputError: It isn't one of a model's repository.
    """
    rest = re.sub("^hf:/{1,2}(models/)?", "", str(text)).rstrip("/")
    found = re.fullmatch(_REST, rest)
    repository = found["repository"] if found else ""
    folder = (found and found["folder"]) or ""
    revision = found and found["revision"]
    expected = f"{SCHEME}OWNER/NAME, {SCHEME}OWNER/NAME@REVISION or …@REVISION/FOLDER"
    if not re.fullmatch(_REPOSITORY, repository) or revision == "":
        raise InputError(f"{text} is no address of a model on the hub", expected=expected)
    if revision is None and "@" in folder:
        inner, _, last = folder.rpartition("@")
        right = HubAddress(repository, last, inner)
        raise InputError(f"{text} has its revision after the folder", mend=f"write {right}")
    if any(part in ("", ".", "..") for part in folder.split("/")) and folder:
        raise InputError(f"{text} names no folder of a repository", expected=expected)
    return HubAddress(repository, None if revision is None else unquote(revision), folder)


def address_in_cache(path: Path) -> HubAddress | None:
    """The address, with its commit, of a folder in the hub's cache; None for any other folder."""
    found = re.fullmatch(_SNAPSHOT, path.absolute().as_posix())
    if found is None:
        return None
    return HubAddress(f"{found['owner']}/{found['name']}", found["commit"], found["folder"] or "")


def reachable(path: Path) -> Path | str:
    """A bundle's path; or, where it leads into another machine's cache of the hub, its address."""
    address = None if path.is_dir() else address_in_cache(path)
    return path if address is None else str(address)
