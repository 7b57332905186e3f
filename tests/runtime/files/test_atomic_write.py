"""Outputs are whole or not there."""

from __future__ import annotations

import os
import subprocess
import sys
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


@pytest.mark.parametrize("kind", ["pipe", "link to a device", "in /dev"])
def test_what_is_no_file_is_never_replaced(tmp_path: Path, kind: str) -> None:
    """Renaming would replace it, as root even /dev/stdout."""
    path = tmp_path / "out.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a device":
        path.symlink_to("/dev/null")
    else:
        path = Path("/dev/stdout")
    with pytest.raises(InputError, match="found a device or pipe"), atomic_path(path):
        pytest.fail("the work began, which would be lost")
    assert path.is_symlink() or path.is_fifo()


WRITE = """
import resource, signal, sys
import os
import subprocess
import sys
from pathlib import Path
from magvit_runtime import MagvitError
from magvit_runtime.files.atomic_write import atomic_path
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with atomic_path(Path(sys.argv[1])) as partial:
        partial.write_bytes(bytes(2000))
except MagvitError as error:
    print(error)
"""


def test_no_room_is_said_by_the_name_of_the_output(tmp_path: Path) -> None:
    """A limit on files is met as a full disk is, without one."""
    path = tmp_path / "out.npy"
    path.write_text("old")
    process = subprocess.run(
        [sys.executable, "-c", WRITE, str(path)], capture_output=True, text=True, check=True
    )
    assert process.stdout == (
        f"can't write {path}: found File too large. Fix: make room, or choose another place\n"
    )
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


CREATE = """
import sys
from pathlib import Path
from magvit_runtime import MagvitError
from magvit_runtime.files.atomic_write import atomic_path
try:
    for number in range(9):
        with atomic_path(Path(sys.argv[1], f"{number}.npy")) as partial:
            partial.write_bytes(b"1")
except MagvitError as error:
    print(type(error).__name__, error)
"""


def test_no_room_for_another_file_is_no_fault_of_the_input(tmp_path: Path) -> None:
    """On a disk for four files and folders, which is there for this process alone."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare gives no mount namespace here")
    mount = 'mount -t tmpfs -o nr_inodes=4 tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", tmp_path, sys.executable, CREATE]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout.startswith(
        f"MagvitError can't write {tmp_path}/3.npy: found No space left"
    )
