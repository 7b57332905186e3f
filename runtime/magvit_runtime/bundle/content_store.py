"""Bundles whose files are links into a store, as those of the hub's cache, DVC and git-annex.

    snapshots/REVISION/bundle.json -> ../../blobs/SHA               the Hugging Face hub's cache
    model/bundle.json -> .dvc/cache/files/md5/12/3456…              DVC
    model/bundle.json -> .git/annex/objects/Kx/92/KEY/KEY           git-annex
    model/bundle.json -> ../releases/7/bundle.json                  a folder of links to another

A link may lead into the folder that bundle.json itself leads into, and nowhere else. A store's
names are digests; so a link to any other file of the machine isn't taken for one.
"""

from __future__ import annotations

import re
from pathlib import Path

MANIFEST_NAME = "bundle.json"

# A digest of 112 bits or more; DVC splits two digits off an MD5 to name a folder.
_DIGEST = re.compile(r"[0-9a-f]{28}", re.IGNORECASE)
# Folders that share out a store's files, by some letters of their names.
_SHARD = re.compile(r"[0-9A-Za-z]{1,3}")
_MOST_SHARDS = 3


def store_of(bundle: Path) -> Path | None:
    """The folder that a bundle's links may lead into; None where bundle.json is no link to outside.

    Nothing is opened. Where bundle.json is a link to what no store would hold, there is none.
    """
    target = (bundle / MANIFEST_NAME).resolve()
    folder = target.parent
    if target.is_relative_to(bundle.resolve()):
        return None
    if folder.name == target.name and "--" in target.name:
        return _above_shards(folder.parent)  # git-annex: a folder for each file, of its key's name.
    if _DIGEST.search(target.name):
        return _above_shards(folder)
    return folder if target.name == MANIFEST_NAME else None


def _above_shards(folder: Path) -> Path | None:
    for _ in range(_MOST_SHARDS):
        if not _SHARD.fullmatch(folder.name):
            break
        folder = folder.parent
    return None if folder == folder.parent else folder  # No store is a whole disk.
