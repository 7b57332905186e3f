"""Signals that ask for the end: nothing is left, and the exit code says which it was."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from runtime.magvit_process import MAIN, done

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def with_signals(*ignored: signal.Signals) -> Callable[[], None]:
    """What a shell's background job, as CI may be, would hand on is taken back first."""

    def prepare() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    return prepare


def start(
    *arguments: object, cwd: Path, ignored: tuple[signal.Signals, ...] = ()
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=with_signals(*ignored),
    )


def wait_for(process: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """Clips that take longer than any test, in a file with holes."""
    path = tmp_path / "clips.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (10**6, 2, 64, 64, 3))
    return path


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("output", ["tokens.parquet", "tokens.npz"])
def test_a_signal_leaves_nothing(
    tiny_bundle: Path, endless: Path, tmp_path: Path, number: signal.Signals, output: str
) -> None:
    process = start("tokenize", tiny_bundle, endless, "-o", f"out/{output}", cwd=tmp_path)
    wait_for(process, tmp_path, "out/.*.partial")
    process.send_signal(number)
    text, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert (text, errors) == ("", f"magvit: stopped by {number.name}\n")
    assert list((tmp_path / "out").iterdir()) == []


def test_nohup_is_kept(tiny_bundle: Path, endless: Path, tmp_path: Path) -> None:
    process = start(
        *("tokenize", tiny_bundle, endless, "-o", "out/tokens.npz"),
        cwd=tmp_path,
        ignored=(signal.SIGHUP,),
    )
    wait_for(process, tmp_path, "out/.*.partial")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


def test_what_a_killed_run_left_goes_with_the_next(
    tiny_bundle: Path, endless: Path, tmp_path: Path
) -> None:
    arguments = ("tokenize", tiny_bundle, endless, "-o", "out/tokens.npz")
    killed, other = (start(*arguments, cwd=tmp_path) for _ in range(2))
    with killed, other:
        for process in (killed, other):
            wait_for(process, tmp_path, "out/.*.partial")
        while len(list(tmp_path.glob("out/.*.partial"))) < 2:
            assert killed.poll() is None
            assert other.poll() is None
            time.sleep(0.01)
        killed.kill()
        killed.wait(timeout=60)
        np.save(tmp_path / "one.npy", np.zeros((1, 2, 8, 8, 3), np.uint8))
        done("tokenize", tiny_bundle, "one.npy", "-o", "out/one.npz", cwd=tmp_path)
        # The run that goes on keeps its own.
        assert len(list(tmp_path.glob("out/.*.partial"))) == 1
        other.terminate()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one.npz"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_stopped_export_leaves_no_staging(tmp_path: Path, number: signal.Signals) -> None:
    process = start("export", "trajectory-small", "--weights", "seeded", "-o", "m", cwd=tmp_path)
    wait_for(process, tmp_path, ".m.*.staging")
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert errors.splitlines()[-1] == f"magvit: stopped by {number.name}"
    assert list(tmp_path.iterdir()) == []
