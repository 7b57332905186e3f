"""Nothing is written over a file that is read, whatever it is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from magvit_runtime import InputError
from magvit_runtime.files.outputs import check_outputs


def same_path(source: Path) -> Path:
    return source


def roundabout_path(source: Path) -> Path:
    return source.parent / "." / "folder" / ".." / source.name


def link(source: Path) -> Path:
    path = source.with_name("link.csv")
    path.symlink_to(source)
    return path


def link_to_a_link(source: Path) -> Path:
    path = source.with_name("second.csv")
    path.symlink_to(link(source).name)
    return path


def hard_link(source: Path) -> Path:
    path = source.with_name("hard.csv")
    path.hardlink_to(source)
    return path


def folder_link(source: Path) -> Path:
    path = source.parent / "elsewhere"
    path.symlink_to(source.parent, target_is_directory=True)
    return path / source.name


NAMES = (same_path, roundabout_path, link, link_to_a_link, hard_link, folder_link)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    path = tmp_path / "walk.csv"
    path.write_text("id,x,y\n")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_an_output_that_is_an_input(source: Path, name: Callable[[Path], Path]) -> None:
    output = name(source)
    with pytest.raises(InputError, match=r"can't be written: it is .*, which is read\. Fix: "):
        check_outputs(output, inputs=(source,))
    with pytest.raises(InputError, match="which is read"):
        check_outputs(source, inputs=(None, output))


@pytest.mark.parametrize("name", NAMES)
def test_an_output_that_is_a_file_in_a_folder_that_is_read(
    source: Path, name: Callable[[Path], Path]
) -> None:
    deep = source.parent / "folder" / "weights"
    deep.hardlink_to(source)
    with pytest.raises(InputError, match="which is read"):
        check_outputs(name(source), inputs=(source.parent / "folder",))


def test_two_outputs_at_one_place(source: Path) -> None:
    """Where there is no file yet, their paths say it."""
    there, elsewhere = source.parent / "new.html", source.parent / "folder" / ".." / "new.html"
    with pytest.raises(InputError, match="would be one file"):
        check_outputs(there, elsewhere, inputs=())
    with pytest.raises(InputError, match="would be one file"):
        check_outputs(source, hard_link(source), inputs=())


def test_other_outputs_may_exist_or_not(source: Path) -> None:
    old = source.with_name("old.csv")
    old.write_text(source.read_text())
    missing = source.with_name("missing.csv")
    check_outputs(old, source.with_name("new.csv"), None, inputs=(source, missing, None))
