"""Checks before any read of a bundle's file: it is a regular file inside the bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from magvit_runtime.bundle.content_store import store_of
from magvit_runtime.errors import BundleError

JSON_LIMIT = 4 * 2**20

T = TypeVar("T")


def check_file(path: Path, bundle: Path, *, mend: str | None = None) -> None:
    """Refuses anything but a regular file of a bundle, without opening it.

    A link leads to a file in the bundle, or in the store that bundle.json itself leads into.

    Args:
        path: The file.
        bundle: The bundle's directory.
        mend: How to get a missing file back.

    Raises:
        BundleError: There is no regular file, or it is a link to outside the bundle.
    """
    # Opening a pipe would wait for ever; `Path.is_file` raises if a name is too long.
    if not os.path.isfile(path):  # noqa: PTH113
        raise BundleError(f"{path} is missing", mend=mend)
    place = path.resolve()
    if place.is_relative_to(bundle.resolve()):
        return
    store = store_of(bundle)
    if store is None or not place.is_relative_to(store):
        raise BundleError(
            f"{path} is a link to outside the bundle",
            found=place,
            mend="put the file itself in its place",
        )


def read_json(path: Path) -> bytes:
    """The text of a checked JSON file.

    Raises:
        BundleError: It can't be read, or is larger than any JSON file that this package writes.
    """
    try:
        with path.open("rb") as file:
            text = file.read(JSON_LIMIT + 1)
    except OSError as error:
        raise BundleError(f"{path} can't be read", found=error.strerror) from error
    if len(text) > JSON_LIMIT:
        raise BundleError(f"{path} is too large", expected=f"{JSON_LIMIT} bytes at most")
    return text


def decode_json(path: Path, text: bytes, kind: type[T], *, mend: str) -> T:
    """A record of the text of a JSON file.

    Raises:
        BundleError: The text is no JSON, is nested too deeply, or isn't such a record.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    # msgspec leaves text that isn't UTF-8, and too deep a nesting, to Python's own errors.
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is malformed", found=str(error), mend=mend) from error
