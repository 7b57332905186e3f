"""Outputs are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from magvit_runtime import InputError
from magvit_runtime.files.atomic_write import atomic_path


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "out.txt"
    with atomic_path(path) as partial:
        assert partial.parent == path.parent  # On one file system, so renaming is one step.
        partial.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("existed", [True, False])
def test_after_an_error_all_is_as_it_was(tmp_path: Path, existed: bool) -> None:
    path = tmp_path / "out.txt"
    if existed:
        path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == ([path] if existed else [])
    assert not existed or path.read_text() == "old"


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file" / "out.txt"
    with pytest.raises(InputError) as error, atomic_path(path):
        pass
    assert str(error.value).startswith(f"can't write {path}: found ")


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.mkdir()
    with pytest.raises(InputError, match="found a folder, expected the name"), atomic_path(path):
        pytest.fail("the work began, which would be lost")
    assert [item.name for item in tmp_path.iterdir()] == ["out.txt"]
    assert list(path.iterdir()) == []
