"""Counters of a Ray cluster that this test starts, as Prometheus scrapes them."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra [ray]")

SCRIPT = """
import re
import sys
import time
from urllib.request import urlopen

import numpy as np
import ray

from magvit_runtime.serving.ray import TokenizeBatches

bundle, port = sys.argv[1], int(sys.argv[2])
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=128 << 20,
         logging_level="error", log_to_driver=False, _metrics_export_port=port)


@ray.remote(num_cpus=0.5)
class Actor:
    def __init__(self):
        self.tokenize = TokenizeBatches(bundle)

    def run(self, shape):
        return len(self.tokenize({"frames": np.zeros(shape, np.uint8)})["tokens"])


actors = [Actor.remote() for _ in range(2)]
for actor in actors:
    assert [ray.get(actor.run.remote((n, 2, 16, 16, 3))) for n in (4, 3)] == [4, 3]
try:
    ray.get(actors[0].run.remote((5, 2, 16, 16, 4)))
except ray.exceptions.RayTaskError as error:
    assert "InputError" in str(error)
else:
    raise AssertionError("it took frames of four channels")

# Each process hands on its counts now and then; the endpoint comes up by itself.
deadline, seen = time.monotonic() + 90, 0
while seen < 14 + 5:
    assert time.monotonic() < deadline, seen
    time.sleep(0.5)
    try:
        lines = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode().splitlines()
    except OSError:
        continue
    shown = [line for line in lines if "magvit_" in line]
    counts = [line for line in shown if re.match(r"ray_magvit_clips(_refused)?_total\\{", line)]
    seen = sum(float(line.rpartition(" ")[2]) for line in counts)
print(*shown, sep="\\n")
ray.shutdown()
"""


def total(lines: list[str], name: str) -> float:
    """A metric, over all processes; each line has both labels."""
    found = [line for line in lines if line.startswith(f"{name}{{")]
    assert all('role="encode"' in line and 'model="trajectory-small"' in line for line in found)
    return sum(float(line.rpartition(" ")[2]) for line in found)


@pytest.mark.slow
@pytest.mark.alone
def test_counters_are_at_rays_endpoint(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_bundle), str(port)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    lines = process.stdout.splitlines()
    assert total(lines, "ray_magvit_clips_total") == 14
    assert total(lines, "ray_magvit_clips_refused_total") == 5
    assert total(lines, "ray_magvit_batch_seconds_count") == 4
    assert total(lines, "ray_magvit_batch_seconds_sum") > 0
    assert any(re.match(r"ray_magvit_batch_seconds_bucket\{.*le=", line) for line in lines)
