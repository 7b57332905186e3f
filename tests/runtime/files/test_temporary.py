"""What isn't finished goes with its process, or at the next start; another's stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.files.temporary import remove_leftovers, temporary_file, temporary_folder

HOLD = """
import sys
from pathlib import Path
from magvit_runtime.files.temporary import temporary_file, temporary_folder
make = {"file": temporary_file, "folder": temporary_folder}[sys.argv[1]]
with make(Path(sys.argv[2]), "tokens.npz") as path:
    path.write_text("half") if path.is_file() else (path / "half").write_text("half")
    print(path, flush=True)
    sys.stdin.read()
"""


def holder(kind: str, folder: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process with something unfinished in a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, kind, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().rstrip("\n"))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_of_a_process_that_runs_nothing_is_removed(tmp_path: Path, kind: str) -> None:
    process, path = holder(kind, tmp_path)
    with process:
        remove_leftovers(tmp_path)
        assert list(tmp_path.iterdir()) == [path]
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_of_a_killed_process_all_is_removed_at_the_next_start(tmp_path: Path, kind: str) -> None:
    process, path = holder(kind, tmp_path)
    with process:
        process.send_signal(signal.SIGKILL)
    assert list(tmp_path.iterdir()) == [path]
    with atomic_path(tmp_path / "another.csv") as partial:
        partial.write_text("whole")
    assert [item.name for item in tmp_path.iterdir()] == ["another.csv"]


def test_files_of_others_stay(tmp_path: Path) -> None:
    names = {
        ".walk.csv.123.partial",
        "walk.magvit-0123456789abcdef.partial",
        ".a.magvit-0123.staging",
    }
    for name in names:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_link_with_such_a_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (tmp_path / ".a.magvit-0123456789abcdef.staging").symlink_to("mine")
    remove_leftovers(tmp_path)
    assert (tmp_path / "mine" / "file").exists()


@pytest.mark.parametrize("stem", ["", "x" * 250, "ж" * 120, os.fsdecode(b"\xff\n")])
def test_any_name_may_be_the_stem(tmp_path: Path, stem: str) -> None:
    with temporary_file(tmp_path, stem) as path, temporary_folder(tmp_path, stem) as folder:
        assert path.is_file()
        assert folder.is_dir()
        assert path.name.startswith(".")
    assert list(tmp_path.iterdir()) == []
