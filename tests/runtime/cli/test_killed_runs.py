"""kill -9 of a run that writes a folder: another run finishes it, byte by byte."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from runtime.magvit_process import MAIN, done_json

STYLE = ("--frames", "2", "--height", "10", "--width", "10", "--margin", "4")
TRAJECTORIES, KILLS = 2000, 20


def many(folder: Path) -> Path:
    """2,000 trajectories in eight files."""
    numbers = np.random.default_rng(0)
    folder.mkdir()
    for file in range(8):
        rows = ["id,x,y,label"]
        for i in range(TRAJECTORIES // 8):
            path = numbers.normal(size=(3, 2)).cumsum(0)
            rows += [f"{i},{x:.3f},{y:.3f},{'ab'[i % 2]}" for x, y in path]
        (folder / f"{file}.csv").write_text("\n".join(rows) + "\n")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def parts_of(folder: Path) -> int:
    return len(list(folder.glob("*.parquet")))


@pytest.mark.slow
def test_a_run_that_is_killed_twenty_times_is_finished_byte_by_byte(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    source = many(tmp_path / "in")
    command = ("tokenize", tiny_bundle, source, *STYLE, "--part-size", 20, "--threads", 1)
    start = time.monotonic()
    assert done_json(*command, "-o", tmp_path / "whole")["clips"] == TRAJECTORIES
    # A share of the undisturbed run for each life, so that all kills find one that works.
    share = (time.monotonic() - start) / KILLS
    moments = random.Random(0)
    killed = seen = 0
    output = tmp_path / "tokens"
    while killed < KILLS:
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *map(str, command), "-o", str(output), "--resume"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            # Every fifth may be killed before it does anything.
            while killed % 5 and parts_of(output) <= seen and process.poll() is None:
                time.sleep(0.002)
            time.sleep(moments.uniform(0, share))
            process.kill()
            assert process.wait() == -signal.SIGKILL, "it was done before: make the source larger"
        killed += 1
        assert parts_of(output) >= seen
        seen = parts_of(output)
    assert 0 < seen < TRAJECTORIES // 20
    facts = done_json(*command, "-o", output, "--resume")
    # The last part may have been written, and not its entry.
    assert facts["parts_there_before"] in (seen, seen - 1)
    assert content(output) == content(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_stopped_run_says_so_in_one_line_and_goes_on(
    tiny_bundle: Path, tmp_path: Path, number: signal.Signals
) -> None:
    source = many(tmp_path / "in")
    command = ("tokenize", tiny_bundle, source, *STYLE, "-o", tmp_path / "tokens")
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: (
            signal.signal(number, signal.default_int_handler) if number == signal.SIGINT else None
        ),
    )
    with process:
        # A part without its entry would be made again.
        while not list((tmp_path / "tokens" / "journal").glob("*.json")):
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(number)
        text, errors = process.communicate(timeout=60)
    assert (process.returncode, text) == (128 + number, "")
    assert errors == f"magvit: stopped by {number.name}\n"
    assert [n for n in content(tmp_path / "tokens") if "magvit-" in n] == []
    facts = done_json(*command, "--resume")
    assert facts["clips"] == TRAJECTORIES
    assert facts["parts_there_before"] > 0
