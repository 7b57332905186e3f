"""The soak of docs/measure in its short form; and that it sees what grows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from measure_scripts import FOLDER, load_script

growth = load_script("growth")


@pytest.mark.slow
@pytest.mark.alone
def test_nothing_grows_with_faults_among_calls_of_eight_threads() -> None:
    # Eight threads take ten seconds until each has done everything once, and holds what it keeps.
    command = [sys.executable, FOLDER / "soak.py", "--calls", "300", "--minutes", "0.6"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr[-4000:]
    assert run.stdout.count("| memory |") == 2
    assert "8 threads" in run.stdout
    done = dict(re.findall(r"(?:^|; )([a-z ]+?) (\d+)", run.stdout, re.M))
    assert {"tokenize", "classify", "bad input"} <= done.keys()
    if "NO FULL DISK" not in run.stdout:
        assert "the command on a full disk: one sentence" in run.stdout


def leaks_memory(kept: list[object]) -> None:
    kept.append(np.ones(2**17))  # A MiB.


def leaks_threads(kept: list[object]) -> None:
    end = threading.Event()
    threading.Thread(target=end.wait, daemon=True).start()
    kept.append(end)


def leaks_files(kept: list[object]) -> None:
    kept.append(os.open(os.devnull, os.O_RDONLY))


def leaks_processes(kept: list[object]) -> None:
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))


def leaks_temporary(kept: list[object]) -> None:
    Path(str(kept[0]), str(len(kept))).touch()
    kept.append(None)


LEAKS = (leaks_memory, leaks_threads, leaks_files, leaks_processes, leaks_temporary)


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
def test_a_leak_is_seen(leak: Callable[[list[object]], None], tmp_path: Path) -> None:
    kept: list[object] = [tmp_path]
    samples = []
    try:
        for _ in range(16):
            leak(kept)
            samples.append(growth.Sample.take(tmp_path))
    finally:
        for one in kept:
            match one:
                case threading.Event():
                    one.set()
                case int():
                    os.close(one)
                case subprocess.Popen():
                    one.communicate()
    name = leak.__name__.removeprefix("leaks_")
    grown = [one.name for one in growth.growths(samples) if one.has_grown]
    assert name in grown
    # A process is also a pipe to it.
    assert set(grown) <= {name, "files"}


def test_what_only_warms_up_is_no_leak(tmp_path: Path) -> None:
    kept: list[object] = []
    samples = []
    for number in range(16):
        if number < 4:
            leaks_memory(kept)
        samples.append(growth.Sample.take(tmp_path))
    assert not any(one.has_grown for one in growth.growths(samples))
