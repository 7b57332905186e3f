"""One at a time in a folder, and nobody waits for the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from magvit_runtime import InputError
from magvit_runtime.files.locks import folder_lock

HOLD = """
import sys
from pathlib import Path
from magvit_runtime.files.locks import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
ADD = """
import sys
from pathlib import Path
from magvit_runtime.files.locks import folder_lock
for _ in range(100):
    with folder_lock(Path(sys.argv[1])):
        count = Path(sys.argv[1], "count")
        count.write_text(str(int(count.read_text()) + 1))
"""


def test_a_lock_of_a_killed_process_is_nobodys(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with folder_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_processes_take_turns(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", ADD, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "300"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_threads_take_turns(tmp_path: Path) -> None:
    inside: list[str] = []

    def other() -> None:
        with folder_lock(tmp_path):
            inside.append("other")

    thread = threading.Thread(target=other)
    with folder_lock(tmp_path):
        thread.start()
        time.sleep(0.1)
        inside.append("first")
    thread.join(timeout=10)
    assert inside == ["first", "other"]


def test_a_folder_that_cant_be_written_to_is_said_at_once(tmp_path: Path) -> None:
    """Of root too, who may write anywhere but here."""
    folder = Path("/proc/self") if os.geteuid() == 0 else tmp_path
    if folder == tmp_path:
        tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=f"can't write to {folder}: found "), folder_lock(folder):
        pass
