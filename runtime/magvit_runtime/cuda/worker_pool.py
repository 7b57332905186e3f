"""The workers of a session on a GPU. Its callers share them; each runs one batch at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from queue import LifoQueue
from typing import Generic, Protocol, TypeVar

from magvit_runtime.cuda.device import CudaDevice
from magvit_runtime.errors import BackendError, InputError

_LOG = logging.getLogger(__name__)

# After this many runs a shape needs nothing new: plain, capture (and replay), replay.
_WARM_UP_RUNS = 3


class Closeable(Protocol):
    """An object that `close` frees."""

    def close(self) -> None:
        """Frees everything."""


Worker = TypeVar("Worker", bound=Closeable)


class WorkerPool(Generic[Worker]):
    """Workers on one GPU, which is current in the calling thread while one is borrowed.

    Thread-safe, except `fill` and `close`: any number of threads may borrow a worker, and wait for
    a free one. A pool that isn't filled, or is closed, has no workers.

    Args:
        device: The GPU.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._workers: list[Worker] = []
        # The worker used last comes first: its data is still in the caches.
        self._free: LifoQueue[Worker] = LifoQueue()
        self._warming_up = threading.Lock()

    def fill(self, new_worker: Callable[[], Worker], count: int) -> None:
        """Makes the workers; those made before an error are closed with the pool.

        Raises:
            InputError: `count` isn't positive.
            BackendError: As `new_worker`.
        """
        if count < 1:
            raise InputError("`workers` must be positive", found=count)
        with self._device.current():
            for _ in range(count):
                self._workers.append(new_worker())
                self._free.put(self._workers[-1])

    @contextmanager
    def borrow(self) -> Iterator[Worker]:
        """A worker that no other thread has at the same time.

        Raises:
            BackendError: The pool is closed.
        """
        self._check_open()
        worker = self._free.get()
        try:
            with self._device.current():
                yield worker
        finally:
            self._free.put(worker)

    def warm_up(self, run: Callable[[Worker], object]) -> None:
        """Calls `run` on every worker until its shape needs no new kernel and no new graph.

        Raises:
            BackendError: As `run`, or the pool is closed.
        """
        self._check_open()
        # Each worker is kept until all had their turn. Two threads doing this would wait forever.
        with self._warming_up, ExitStack() as borrowed:
            for _ in self._workers:
                worker = borrowed.enter_context(self.borrow())
                for _ in range(_WARM_UP_RUNS):
                    run(worker)

    def close(self) -> None:
        """Frees the workers. None may be borrowed, and the GPU must be current."""
        while self._workers:
            try:
                self._workers.pop().close()
            except BackendError as error:
                # After a GPU failure nothing can be freed, and nothing needs to be.
                _LOG.warning("closing a session: %s", error)
        self._free = LifoQueue()

    def _check_open(self) -> None:
        if not self._workers:
            raise BackendError("this session is closed")
