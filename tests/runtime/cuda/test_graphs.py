"""Captures into CUDA graphs, on a stand-in for the GPU: failed captures are tried again."""

from __future__ import annotations

import gc

import pytest
from runtime import stand_in_gpu
from runtime.stand_in_gpu import Cuda

from magvit_runtime.cuda.device import open_device
from magvit_runtime.cuda.graphs import capture
from magvit_runtime.cuda.shaped_run import LaunchMode, ShapedRun
from magvit_runtime.errors import BackendError


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return stand_in_gpu.install(monkeypatch)[0]


def shaped_run(cuda: Cuda, stream: int = 7) -> tuple[ShapedRun, LaunchMode, list[str]]:
    """A run whose work notes itself."""
    done: list[str] = []
    launches = LaunchMode(captures=True, graphs="CUDA graphs")

    def enqueue() -> None:
        cuda.submit(stream, lambda: done.append("work"))

    return ShapedRun(enqueue, {}, open_device(), stream, launches), launches, done


def test_a_capture_that_failed_is_tried_again_at_the_next_run(cuda: Cuda) -> None:
    run, launches, done = shaped_run(cuda)
    run.launch()
    cuda.capture_fails = True
    run.launch()
    assert launches.description.startswith("plain launches: capture into a CUDA graph failed")
    cuda.capture_fails = False
    run.launch()
    assert launches.description == "CUDA graphs"
    assert cuda.calls == ["replay"]
    assert done == ["work"] * 3
    run.close()
    assert not any(cuda.live.values())


def test_a_capture_that_always_fails_is_tried_ever_more_rarely(
    cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _, done = shaped_run(cuda)
    tries: list[int] = []
    begin = cuda.cudaStreamBeginCapture
    monkeypatch.setattr(
        cuda, "cudaStreamBeginCapture", lambda *a: (tries.append(len(done)), begin(*a))[1]
    )
    cuda.capture_fails = True
    for _ in range(3000):
        run.launch()
    assert tries[:6] == [1, 2, 4, 8, 16, 32]
    assert tries[-1] - tries[-2] == 1001
    assert len(done) == 3000


def test_no_garbage_is_collected_during_a_capture(cuda: Cuda) -> None:
    """Freeing a reference cycle of a CUDA library would break the capture."""
    freed_during_capture: list[bool] = []

    class HoldsMemory:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            freed_during_capture.append(7 in cuda.captured)

    def enqueue() -> None:
        HoldsMemory()
        # Enough to make the collector run by itself, were it on.
        [[i] for i in range(10 * gc.get_threshold()[0])]

    executable = capture(open_device(), 7, enqueue)
    cuda.cudaGraphExecDestroy(executable)
    assert gc.isenabled()
    gc.collect()
    assert freed_during_capture == [False]


def test_work_that_raises_leaves_the_stream_usable(cuda: Cuda) -> None:
    def fail() -> None:
        raise RuntimeError("of another library")

    with pytest.raises(RuntimeError, match="of another library"):
        capture(open_device(), 7, fail)
    cuda.capture_fails = True
    with pytest.raises(BackendError, match="cudaErrorStreamCaptureInvalidated"):
        capture(open_device(), 7, lambda: None)
    assert not cuda.captured
    assert gc.isenabled()
