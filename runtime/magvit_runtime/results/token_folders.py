"""Tokens of a run that wrote a folder: its parts, checked against its manifest, as one table."""

from __future__ import annotations

import msgspec
import numpy as np

from magvit_runtime.errors import InputError
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.results.folders import Folder, Place, open_folder
from magvit_runtime.results.run_records import PartRecord, read_manifests
from magvit_runtime.results.token_table import TokenFileInfo, TokenTable, read_token_file


def read_token_folder(place: Place) -> TokenTable:
    """Reads all tokens of a finished run (about 5 KB a clip).

    Args:
        place: A folder, or the address of one.

    Raises:
        InputError: The run isn't finished, or a part is missing, damaged, or not of the run.
        MissingPackageError: pyarrow isn't installed.
    """
    folder = open_folder(place)
    manifests = read_manifests(folder, "tokens", "magvit tokenize -o FOLDER")
    tables = [_read_part(folder, part) for manifest in manifests for part in manifest.parts]
    if not tables:
        raise InputError(f"{folder.address()} holds no tokens")
    info = msgspec.convert(
        next(one.info for one in manifests if one.info is not None), TokenFileInfo
    )
    if any(table.info != info for table in tables):
        raise InputError(f"{folder.address()} has parts that aren't what its manifest says")
    return TokenTable(
        info,
        tuple(name for table in tables for name in table.ids),
        tuple(label for table in tables for label in table.labels),
        np.concatenate([table.tokens for table in tables]),
        tuple(steps for table in tables for steps in table.time_steps),
        tuple(place for table in tables for place in table.places),
    )


def _read_part(folder: Folder, part: PartRecord) -> TokenTable:
    with folder.local(part.name) as path:
        found = file_sha256(path)
        if found != part.sha256:
            raise InputError(
                f"{folder.address(part.name)} isn't what its manifest says",
                found=f"sha256 {found}",
                expected=part.sha256,
                mend="give the run's command again with --resume",
            )
        return read_token_file(path)
