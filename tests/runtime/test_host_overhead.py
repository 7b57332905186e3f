"""The runtime's own cost: time around a backend's run, and memory over many calls.

Needs the bundle `small_bundle` and takes about 20 s.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import pytest

from magvit_runtime import open_bundle
from magvit_runtime.backends.backend import Session
from magvit_runtime.backends.opening import open_role
from magvit_runtime.tokenizer import Tokenizer
from magvit_runtime.types import Array

pytestmark = pytest.mark.alone

BACKENDS: tuple[Literal["native", "onnxruntime"], ...] = ("native", "onnxruntime")
LIMIT_SECONDS = 150e-6
CALLS = 10_000


class _ThreadTimed:
    """A session, and the processor time that the calling thread spent in its last run."""

    def __init__(self, session: Session) -> None:
        self.capabilities = session.capabilities
        self.stage_times = session.stage_times
        self.close = session.close
        self.seconds = 0.0
        self._session = session

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        begin = time.thread_time()
        results = self._session.run(inputs, outputs)
        self.seconds = time.thread_time() - begin
        return results


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_call_adds_at_most_150_microseconds_to_the_backends_run(
    small_bundle: Path, backend: Literal["native", "onnxruntime"]
) -> None:
    """Processor time of the calling thread, the least of some calls.

    What else runs on the machine isn't the runtime's.
    """
    bundle = open_bundle(small_bundle)
    graph, opened = open_role(bundle, "encode", backend=backend, threads=1)
    session = _ThreadTimed(opened)
    clips = np.zeros((1, 17, 128, 128, 3), np.uint8)
    added = []
    with Tokenizer(bundle, graph, session, batch_size=1) as tokenizer:
        for _ in range(24):
            begin = time.thread_time()
            tokenizer(clips)
            added.append(time.thread_time() - begin - session.seconds)
    assert 0 < min(added) <= LIMIT_SECONDS


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_does_not_grow_over_ten_thousand_calls(
    tiny_bundle: Path, backend: Literal["native", "onnxruntime"]
) -> None:
    process = psutil.Process()
    clips = np.zeros((1, 1, 8, 8, 3), np.uint8)
    with Tokenizer.open(tiny_bundle, backend=backend, threads=1) as tokenizer:

        def call(times: int) -> tuple[int, int]:
            """Blocks that Python holds, and bytes that the process holds, after some calls."""
            for _ in range(times):
                tokenizer(clips)
            gc.collect()
            return sys.getallocatedblocks(), process.memory_info().rss

        blocks_before, bytes_before = call(200)
        blocks_after, bytes_after = call(CALLS)
    # An object that is kept after each call, or every tenth, shows: it is at least one block.
    assert blocks_after - blocks_before < CALLS / 10
    assert bytes_after - bytes_before < 4 * 2**20
