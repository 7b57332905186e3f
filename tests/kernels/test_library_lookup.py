"""The folders in which native libraries are looked for, and the error if they are missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from magvit_runtime.errors import BackendError
from magvit_runtime.native_libraries import lookup
from magvit_runtime.native_libraries.operators import lfq


def test_variable_names_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, operators_library: Path
) -> None:
    shutil.copy(operators_library, tmp_path)
    monkeypatch.setenv(lookup.LIBRARY_DIR_VARIABLE, str(tmp_path))
    assert lookup.operators_library() == tmp_path / operators_library.name
    assert lookup.plugin_library() is None
    assert lfq(np.ones((1, 3, 1), np.float32)).item() == 7


def test_missing_library_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(lookup.LIBRARY_DIR_VARIABLE, str(tmp_path))
    with pytest.raises(BackendError, match="cmake -B build") as caught:
        lfq(np.ones((1, 3, 1), np.float32))
    assert str(tmp_path) in str(caught.value)


def test_damaged_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libmagvit_operators.so").write_bytes(b"not a library")
    monkeypatch.setenv(lookup.LIBRARY_DIR_VARIABLE, str(tmp_path))
    with pytest.raises(BackendError, match="can't be loaded"):
        lfq(np.ones((1, 3, 1), np.float32))
