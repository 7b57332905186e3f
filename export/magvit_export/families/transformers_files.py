"""Folders of models as transformers saves them, and transformers itself."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from magvit_runtime.errors import InputError
from magvit_runtime.hardware.packages import missing_package

CONFIG_NAME = "config.json"


def import_transformers() -> Any:
    """The package; it is needed only to export VideoMAE and CLIP.

    Raises:
        MissingPackageError: It, or Pillow, isn't installed.
    """
    for name in ("transformers", "PIL"):
        if find_spec(name) is None:
            raise missing_package(name, "exporting VideoMAE or CLIP")
    return import_module("transformers")


def read_config_file(path: Path, kinds: tuple[str, ...]) -> dict[str, Any] | None:
    """The config.json in a folder, or beside a file of weights; None where there is none.

    Args:
        path: The folder, or the file.
        kinds: What its `model_type` may be.

    Raises:
        InputError: It can't be read, or is another model's.
    """
    file = (path if path.is_dir() else path.parent) / CONFIG_NAME
    if not file.is_file():
        return None
    content = read_json(file)
    found = content.get("model_type")
    if found not in kinds:
        raise InputError(
            f"{file} is of another kind of model",
            found=f"model_type {found!r}",
            expected=" or ".join(map(repr, kinds)),
            mend="name the model that the weights are of (`magvit models`)",
        )
    return content


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: There is none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise InputError(f"can't read {path}", found=error.strerror) from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InputError(f"{path} is no JSON object", found=str(error)) from error


def as_config(kind: str, content: dict[str, Any], file: Path) -> Any:
    """A configuration of transformers from its file, of whatever generation.

    Args:
        kind: The class's name.
        content: The file's content.
        file: For messages.

    Raises:
        InputError: A value is none that the class takes.
        MissingPackageError: transformers or Pillow isn't installed.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        return getattr(import_transformers(), kind).from_dict(content)
    except (AttributeError, LookupError, StrictDataclassError, TypeError, ValueError) as error:
        raise InputError(f"{file} isn't a {kind}", found=" ".join(str(error).split())) from error


def square(size: Any) -> tuple[int, int]:
    """Height and width of what a config gives as one number or two."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)
