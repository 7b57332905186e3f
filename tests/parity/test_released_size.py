"""Time and memory of the released configuration, from a file of 568 keys and 3 GB."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from parity.encoders import Encoders
from parity.suite import MODELS

from magvit_export.checkpoints.fitting import list_entries
from magvit_export.checkpoints.reading import read_content
from magvit_runtime import open_bundle

(RELEASED,) = (model for model in MODELS if model.fixture == "video_full")


def tree_memory(process: psutil.Process) -> int:
    """Resident bytes of a process and its children."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def run_measured(arguments: list[str]) -> tuple[float, int]:
    """Seconds and peak resident bytes of a `magvit` command that must succeed."""
    main = "from magvit_runtime.cli.main import main; main()"
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", main, *arguments])
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        watched = psutil.Process(process.pid)
        while not done.wait(0.05):
            try:
                peak = max(peak, tree_memory(watched))
            except psutil.NoSuchProcess:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    done.set()
    watcher.join()
    assert code == 0
    return time.monotonic() - start, peak


@pytest.mark.full_size
@pytest.mark.timeout(1800)
def test_an_export_keeps_to_its_limits(encoders: Encoders, tmp_path: Path) -> None:
    """And its encoder is the same, byte for byte, as the one whose tokens the suite compares."""
    bundle = tmp_path / "bundle"
    weights = ["--weights", str(encoders.checkpoint(RELEASED))]
    seconds, peak = run_measured(
        ["export", RELEASED.entry, *weights, "--precision", "fp32", "-o", str(bundle)]
    )
    print(f"export: {seconds:.0f} s, peak {peak / 1e9:.2f} GB")
    assert seconds < 240
    assert peak < 6e9
    compared = open_bundle(encoders.bundle(RELEASED, "ema", "fp32")).manifest
    made = open_bundle(bundle).manifest
    assert made.graphs.keys() == {"encode", "decode"}
    assert {name: made.files[name] for name in compared.files} == compared.files


@pytest.mark.full_size
def test_the_checkpoint_has_the_released_keys(encoders: Encoders) -> None:
    path = encoders.checkpoint(RELEASED)
    assert len(list_entries(path, read_content(path))) == 568
