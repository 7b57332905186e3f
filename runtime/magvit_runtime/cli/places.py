"""Arguments that are paths, or addresses: s3://bucket/folder, or hf://owner/name of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

from magvit_runtime.errors import InputError
from magvit_runtime.hub.fetching import local_folder, refuse_hub
from magvit_runtime.results.folders import is_folder_place, place_of


def _place(_: Any, tokens: Sequence[Token]) -> Path | str:
    return place_of(tokens[0].value)


def _bundle(_: Any, tokens: Sequence[Token]) -> Path:
    return local_folder(tokens[0].value)


def _own_bundle(_: Any, tokens: Sequence[Token]) -> Path:
    refuse_hub(tokens[0].value)
    return Path(tokens[0].value)


# A bundle that is read: an address of the hub is fetched, and becomes its folder in the cache.
BundleArgument = Annotated[Path, Parameter(converter=_bundle, n_tokens=1)]
OptionalBundle = Annotated[Path | None, Parameter(converter=_bundle, n_tokens=1)]
# One that is written into.
OwnBundle = Annotated[Path, Parameter(converter=_own_bundle, n_tokens=1)]
PlaceArgument = Annotated[Path | str, Parameter(converter=_place, n_tokens=1)]
OutputPlace = Annotated[Path | str, Parameter(converter=_place, n_tokens=1, alias="-o")]


def is_run(source: Path | str, output: Path | str) -> bool:
    """Whether a command writes a folder in parts.

    Raises:
        InputError: It doesn't, and the source or the output is more than a file.
    """
    if is_folder_place(output):
        return True
    if isinstance(output, str) or isinstance(source, str) or source.is_dir():
        raise InputError(
            f"{output} is a file",
            found=f"{source}, which may be many files" if isinstance(output, Path) else None,
            expected="a folder, whose name has no ending",
            mend="choose another -o",
        )
    return False
