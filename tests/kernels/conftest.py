"""Finds the native libraries: the installed package's, or those of a build folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from magvit_runtime.native_libraries import lookup

REPOSITORY = Path(__file__).resolve().parents[2]
HOW_TO_BUILD = "build them by: cmake -B build && cmake --build build"


def pytest_configure() -> None:
    """Uses a build folder of this checkout if no library is installed."""
    if lookup.operators_library() is None:
        for library in sorted(REPOSITORY.glob("build/**/lib/libmagvit_operators.so")):
            os.environ.setdefault(lookup.LIBRARY_DIR_VARIABLE, str(library.parent))


@pytest.fixture(scope="session", autouse=True)
def operators_library() -> Path:
    path = lookup.operators_library()
    if path is None:
        pytest.skip(f"libmagvit_operators.so is not there; {HOW_TO_BUILD}")
    return path


@pytest.fixture(scope="session")
def plugin_library() -> Path:
    path = lookup.plugin_library()
    if path is None:
        pytest.skip(
            "libmagvit_plugins.so is not there; "
            f"{HOW_TO_BUILD} (needs nvcc; -DMAGVIT_TENSORRT=ON says what else is missing)"
        )
    return path


@pytest.fixture(scope="session")
def plugin_autoload_library(plugin_library: Path) -> Path:
    path = lookup.plugin_autoload_library()
    if path is None:
        pytest.skip(f"{plugin_library.parent} has no libmagvit_plugins_autoload.so; {HOW_TO_BUILD}")
    return path


@pytest.fixture
def gpu_check_scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of gpu-check, whose scripts the test can import by their bare names."""
    folder = REPOSITORY / "kernels" / "gpu_check"
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    # The one called __main__ is gpu-check's; the module of that name is pytest's own.
    for name in {script.stem for script in folder.glob("*.py")} - before:
        sys.modules.pop(name, None)
