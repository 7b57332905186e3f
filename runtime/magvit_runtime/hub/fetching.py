"""Fetches bundles from the hub into its own cache, which other tools on the machine share."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

import msgspec

from magvit_runtime.errors import InputError
from magvit_runtime.hardware.packages import is_installed, missing_package
from magvit_runtime.hub.addresses import HubAddress, address_in_cache, is_address, parse_address
from magvit_runtime.hub.client_output import quiet_client
from magvit_runtime.hub.refusals import HubError, hub_failures, refusal

_MANIFEST = "bundle.json"
# Engines aren't named in the manifest; a bundle's folder has them where they were pushed.
_ENGINES = "engines/*"


def local_folder(place: str | Path) -> Path:
    """The folder of a bundle: a path as it is, an address once its files are in the hub's cache.

    Raises:
        InputError: The address can't be read.
        HubError: The bundle can't be fetched, or the repository has none.
        MissingPackageError: huggingface_hub isn't installed.
    """
    return fetch_bundle(parse_address(place)) if is_address(place) else Path(place)


def fetch_bundle(address: HubAddress) -> Path:
    """Fetches what a bundle's manifest names, and its engines; or finds them in the hub's cache.

    A branch or tag is asked for its commit, unless HF_HUB_OFFLINE=1, or the hub can't be reached;
    newer versions of huggingface_hub open a commit that is wholly in the cache without the hub.

    Returns:
        The bundle's folder in the cache, `…/snapshots/COMMIT`, whose files are links.

    Raises:
        HubError: The hub can't be reached, or refuses; or the repository has no whole bundle.
        MissingPackageError: huggingface_hub isn't installed.
    """
    if not is_installed("huggingface_hub"):
        raise missing_package("huggingface_hub", f"opening {address}")
    snapshot = _snapshot(address, address.revision, [_MANIFEST])
    bundle = snapshot / address.folder
    if not (bundle / _MANIFEST).is_file():
        raise HubError(
            f"{address} is no bundle: there is no {_MANIFEST}",
            mend="check the address; a bundle in a folder of the repository is "
            f"{HubAddress(address.repository, address.revision, 'FOLDER')}",
        )
    names = _files(bundle / _MANIFEST)
    # By the commit that has this manifest: a branch may have moved on meanwhile.
    _snapshot(address, snapshot.name, [*map(glob.escape, names), _ENGINES])
    for name in names:
        if not os.path.isfile(bundle / name):  # noqa: PTH113 - as in `check_file`
            raise HubError(
                f"{address} is no whole bundle: there is no {name}",
                mend="fetch it again with HF_HUB_OFFLINE=0; if that finds no more, "
                "push the bundle again with `magvit push`",
            )
    return bundle


def refuse_hub(place: str | Path) -> None:
    """Refuses an address of the hub, or a folder in its cache, as what is to be changed.

    Raises:
        InputError: It is one.
    """
    address = parse_address(place) if is_address(place) else address_in_cache(Path(place))
    if address is None:
        return
    command = ["hf", "download", address.repository]
    if address.revision:
        command += ["--revision", address.revision]
    if address.folder:
        command += ["--include", f"{address.folder}/*"]
    copy = "/".join(filter(None, ("COPY", address.folder)))
    raise InputError(
        f"{address} can't be changed here: the hub's cache is shared, and holds what the hub has",
        mend=f"{shlex.join([*command, '--local-dir', 'COPY'])}, change {copy}, and push it with "
        "`magvit push`",
    )


def _snapshot(address: HubAddress, revision: str | None, patterns: Iterable[str]) -> Path:
    from huggingface_hub import snapshot_download  # noqa: TID251 - in the extra [hub]

    folder = f"{glob.escape(address.folder)}/" if address.folder else ""
    allowed = [folder + pattern for pattern in patterns]
    try:
        with quiet_client():
            found = snapshot_download(address.repository, revision=revision, allow_patterns=allowed)
    except hub_failures() as error:
        why = refusal(error, address.repository, address.revision)
        raise HubError(f"can't fetch {address}", found=why.reason, mend=why.mend) from error
    return Path(found)


class _Named(msgspec.Struct):
    files: dict[str, object]


def _files(manifest: Path) -> list[str]:
    """The files that a manifest names; none of one that can't be read, which its reader refuses."""
    try:
        return list(msgspec.json.decode(manifest.read_bytes(), type=_Named).files)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return []
