"""Workers that take turns, on the stand-in for the GPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from runtime import stand_in_gpu

from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.sessions.cuda_device import open_device
from magvit_runtime.sessions.worker_pool import WorkerPool


class Worker:
    def __init__(self, closing: list[Worker]) -> None:
        self.runs = 0
        self.fails = False
        self._closing = closing

    def run(self) -> None:
        self.runs += 1

    def close(self) -> None:
        self._closing.append(self)
        if self.fails:
            raise BackendError("the GPU is gone")


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> WorkerPool[Worker]:
    stand_in_gpu.install(monkeypatch)
    return WorkerPool(open_device())


def test_a_warm_up_reaches_every_worker_from_many_threads_at_once(
    pool: WorkerPool[Worker],
) -> None:
    workers: list[Worker] = []

    def new_worker() -> Worker:
        workers.append(Worker([]))
        return workers[-1]

    pool.fill(new_worker, 3)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: pool.warm_up(Worker.run), range(4)))
    assert [worker.runs for worker in workers] == [12, 12, 12]


def test_a_borrowed_worker_comes_back_after_an_error(pool: WorkerPool[Worker]) -> None:
    pool.fill(partial(Worker, []), 1)
    with pytest.raises(KeyError), pool.borrow() as first:
        raise KeyError
    with pool.borrow() as second:
        assert second is first


def test_closing_goes_on_after_a_worker_that_cant(
    pool: WorkerPool[Worker], caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[Worker] = []
    pool.fill(partial(Worker, closed), 2)
    with pool.borrow() as last:
        last.fails = True
    pool.close()
    assert len(set(closed)) == 2
    assert caplog.messages == ["closing a session: the GPU is gone"]
    with pytest.raises(BackendError, match="closed"), pool.borrow():
        pass
    with pytest.raises(BackendError, match="closed"):
        pool.warm_up(Worker.run)


@pytest.mark.parametrize("count", [0, -1])
def test_workers_must_be_positive(pool: WorkerPool[Worker], count: int) -> None:
    with pytest.raises(InputError, match=f"`workers` must be positive: found {count}"):
        pool.fill(partial(Worker, []), count)
