"""Wheels to install for a run: whether this Python can use them, and their modules.

A wheel's name says what it is for, as `msgspec-0.22.0-cp312-cp312-manylinux_2_28_x86_64.whl` does:
name, version, perhaps a build number, then tags of Python, of its binary interface and of the
platform, each one or several with dots between them.
Source: https://packaging.python.org/specifications/binary-distribution-format
"""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path
from zipfile import ZipFile

_NAME = re.compile(
    r"(?P<name>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?"
    r"-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl"
)


def refusals(folder: Path, version: tuple[int, int] = sys.version_info[:2]) -> list[str]:
    """A sentence on each wheel of a folder that this Python can't use, and on a folder without any.

    Args:
        folder: The folder.
        version: Major and minor version of Python.
    """
    files = sorted(folder.glob("*.whl"))
    if not files:
        return [f"{folder} holds no wheels (*.whl): give --wheels the folder that they lie in"]
    return [text for file in files if (text := _refusal(file, version)) is not None]


def holds_module(folder: Path, module: str) -> bool:
    """Whether a wheel of a folder holds a Python module, given as `package.module`."""
    path = re.escape(module.replace(".", "/"))
    entry = re.compile(rf"{path}(/.*|\.py|\..*\.so)")
    return any(
        entry.fullmatch(name)
        for wheel in folder.glob("*.whl")
        for name in ZipFile(wheel).namelist()
    )


def _refusal(file: Path, version: tuple[int, int]) -> str | None:
    tags = _NAME.fullmatch(file.name)
    major, minor = version
    if tags is None:
        return f"{file} isn't named as a wheel is: fetch it again with pip, and keep its name"
    pythons, abis, platforms = (tags[key].split(".") for key in ("python", "abi", "platform"))
    older = [f"{major}{n}" for n in range(minor + 1)]
    ours = f"cp{major}{minor}"
    fits_python = (
        (ours in pythons and ours in abis)
        or ("abi3" in abis and any(f"cp{n}" in pythons for n in older))
        or ("none" in abis and any(f"py{n}" in pythons for n in (major, *older)))
        or ("none" in abis and ours in pythons)
    )
    machine = platform.machine()
    fits_platform = any(
        tag == "any" or (tag.startswith(("linux_", "manylinux")) and tag.endswith(machine))
        for tag in platforms
    )
    if fits_python and fits_platform:
        return None
    found = "-".join(tags[key] for key in ("python", "abi", "platform"))
    return (
        f"{file} is for {found}; this is Python {major}.{minor} ({ours}) on Linux, {machine}. "
        "Fix: remove it, and fetch the right one on a machine like this by python3 -m pip download "
        f"--no-deps --only-binary=:all: --python-version {major}.{minor} --dest {file.parent} "
        f"{tags['name'].replace('_', '-')}=={tags['version']}"
    )
