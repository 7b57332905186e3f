"""Runs on a Ray cluster of several processes, some of which are killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from measure_scripts import load_script
from runtime.cli.test_killed_runs import STYLE, TRAJECTORIES, content, many, parts_of
from runtime.magvit_process import MAIN, done_json, failed

from magvit_runtime import InputError, Tokenizer
from magvit_runtime.results.token_files import read_tokens
from magvit_runtime.serving.ray import TokenizeBatches

pytest.importorskip("ray", reason="the extra [ray]")


@pytest.fixture(autouse=True)
def workers_that_dont_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's run at a high nice, and would wait for the tests beside these."""
    monkeypatch.setenv("RAY_worker_niceness", "0")


def actors(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Those that make parts."""
    return [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "_PartMaker" in " ".join(child.cmdline())
    ]


def entries_of(folder: Path) -> int:
    """Parts that the journal names: the run's process writes that after a worker wrote the part."""
    return len(list((folder / "journal").glob("*.json")))


def wait_for_parts(process: subprocess.Popen[str], folder: Path, parts: int) -> None:
    deadline = time.monotonic() + 300
    while entries_of(folder) < parts:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.alone
def test_nothing_is_lost_or_doubled_when_workers_and_the_run_are_killed(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    source, output = many(tmp_path / "in"), tmp_path / "tokens"
    shared = ("tokenize", tiny_bundle, source, *STYLE, "--part-size", 20, "--threads", 1)
    whole = done_json(*shared, "-o", tmp_path / "whole")
    ray = (*shared, "-o", output, "--ray", "--workers", 2, "--cpus-per-worker", 0.5)
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, ray)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        for _ in range(2):
            wait_for_parts(process, output, entries_of(output) + 3)
            victim = actors(process)[0]
            victim.kill()
            victim.wait()
        wait_for_parts(process, output, entries_of(output) + 5)
        left = actors(process)
        process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == ""  # Ray's words on the dead aren't our output.
    # Nobody goes on writing.
    _, alive = psutil.wait_procs(left, timeout=60)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    assert 11 <= parts_of(output) < TRAJECTORIES // 20
    facts = done_json(*ray, "--resume")
    assert facts["clips"] == whole["clips"] == TRAJECTORIES
    assert facts["parts_there_before"] >= 11
    ids = read_tokens(output).ids
    assert len(set(ids)) == len(ids) == TRAJECTORIES
    assert content(output) == content(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.alone
def test_what_an_actor_refuses_is_one_sentence(tiny_bundle: Path, tmp_path: Path) -> None:
    source = many(tmp_path / "in")
    command = ("tokenize", tiny_bundle, source, *STYLE, "-o", tmp_path / "tokens", "--ray")
    line = failed(1, *command, "--gpus-per-worker", 3)
    assert line.startswith("no machine of the cluster has room for a worker: found ")
    (tmp_path / "in" / "8.csv").write_text("id,x,y,z\na,0,0,0\na,1,1,1\n")
    line = failed(2, *command, "--part-size", 2000)
    assert "all clips of a run are of one kind" in line or "in space" in line


def test_options_that_arent_for_ray(tiny_bundle: Path, tmp_path: Path) -> None:
    walk = tmp_path / "walk.csv"
    walk.write_text("id,x,y\na,0,0\na,1,1\n")
    command = ("tokenize", tiny_bundle, walk, *STYLE, "-o", tmp_path / "tokens")
    assert "workers are Ray's. Fix: pass --ray" in failed(2, *command, "--workers", 2)
    shared = failed(2, *command, "--ray", "--shard", "0/2")
    assert shared.startswith("a cluster shares the work by itself")


def test_a_class_for_map_batches(tiny_bundle: Path) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (3, 2, 16, 16, 3), np.uint8)
    made = TokenizeBatches(tiny_bundle)({"id": np.arange(3), "frames": clips})
    assert made.keys() == {"id", "tokens"}
    with Tokenizer.open(tiny_bundle) as tokenizer:
        np.testing.assert_array_equal(made["tokens"], tokenizer(clips))
    with pytest.raises(InputError, match="a batch has no clips: found x, expected frames"):
        TokenizeBatches(tiny_bundle)({"x": clips})


@pytest.mark.slow
@pytest.mark.alone
def test_a_core_does_not_work_much_less_for_ray(tiny_bundle: Path, tmp_path: Path) -> None:
    """docs/serving.md has the figure of a quiet machine; here others may be at work."""
    source = many(tmp_path / "in")
    rates = load_script("ray_rate").rates
    plain, ray = rates(tiny_bundle, source, tmp_path, 1, 50, STYLE)
    assert ray > 0.4 * plain
