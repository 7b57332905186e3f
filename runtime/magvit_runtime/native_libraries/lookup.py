"""Finds and loads our compiled libraries."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from magvit_runtime.errors import BackendError

LIBRARY_DIR_VARIABLE = "MAGVIT_LIBRARY_DIR"


def operators_library() -> Path | None:
    """The file of the CPU operators, or None where it was not built."""
    return _find("libmagvit_operators.so")


def cuda_library() -> Path | None:
    """The file of the CUDA operators, or None where it was not built."""
    return _find("libmagvit_cuda.so")


# The plugins' names, attributes and tensors, as one number; kPluginVersion of kernels/plugins.
PLUGIN_INTERFACE = 1
# The operators of ours that they are of; TensorRT takes other ones by their definitions.
PLUGIN_OPERATORS = frozenset({"CodebookArgmax", "GroupNorm", "GroupNormSiLU", "LFQ"})


def plugin_library() -> Path | None:
    """The file of the TensorRT plugins, or None where it was not built."""
    return _find("libmagvit_plugins.so")


def plugin_autoload_library() -> Path | None:
    """The file that loads the plugins beside it once it is opened; None where it was not built."""
    return _find("libmagvit_plugins_autoload.so")


def missing_library(name: str, compiler: str) -> BackendError:
    """The error for a native library that was not built."""
    return BackendError(
        f"{name} are missing",
        expected=f"the file in {' or '.join(str(folder) for folder in _folders())}",
        mend=f"pip install magvit-runtime with {compiler} at hand, or run "
        f"'cmake -B build && cmake --build build' and set {LIBRARY_DIR_VARIABLE}=build/lib",
    )


def load_library(path: Path, abi_function: str, expected_abi: int) -> ctypes.CDLL:
    """Loads a native library and compares its version with this package's.

    Raises:
        BackendError: It can't be loaded, or is of another version.
    """
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise BackendError(
            f"{path} can't be loaded", found=str(error), mend="build it on this machine"
        ) from error
    abi = getattr(library, abi_function)()
    if abi != expected_abi:
        raise BackendError(
            f"{path} is of another version than this package",
            found=f"ABI {abi}",
            expected=f"ABI {expected_abi}",
            mend="reinstall magvit-runtime, or build the library from the same sources",
        )
    return library


def _find(name: str) -> Path | None:
    return next((folder / name for folder in _folders() if (folder / name).is_file()), None)


def _folders() -> Iterator[Path]:
    """Folders of the libraries: the variable's, or else the one beside the package's modules."""
    chosen = os.environ.get(LIBRARY_DIR_VARIABLE)
    if chosen:
        yield Path(chosen)
        return
    package = find_spec(__name__.partition(".")[0])
    # An editable install has two such folders: the sources' and the built files'.
    for folder in (package and package.submodule_search_locations) or ():
        yield Path(folder) / "lib"
