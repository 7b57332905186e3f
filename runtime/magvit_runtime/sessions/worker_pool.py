"""The workers of a session on a GPU, which its callers share: each runs one batch at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from queue import LifoQueue
from typing import Generic, Protocol, TypeVar

from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.sessions.cuda_device import CudaDevice

_LOG = logging.getLogger("magvit_runtime.sessions")

# Runs after which a shape needs nothing new: plain, capture (and replay), replay.
_WARM_UP_RUNS = 3


class Closeable(Protocol):
    """What frees its memory by `close`."""

    def close(self) -> None:
        """Frees everything."""


Worker = TypeVar("Worker", bound=Closeable)


class WorkerPool(Generic[Worker]):
    """Workers on one GPU, which is current in the calling thread while one is borrowed.

    Thread-safe but for `fill` and `close`: any number of threads may borrow, and wait for a free
    worker. A pool that isn't filled, or is closed, has none to lend.

    Args:
        device: The GPU.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._workers: list[Worker] = []
        # The last used first: what it needs is still in the caches.
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
        """A worker that no other thread has meanwhile.

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
        """Runs something on every worker until its shape needs nothing new: no kernel, no graph.

        Raises:
            BackendError: As `run`, or the pool is closed.
        """
        self._check_open()
        # Each worker is kept until all had their turn; two threads doing so would wait forever.
        with self._warming_up, ExitStack() as borrowed:
            for _ in self._workers:
                worker = borrowed.enter_context(self.borrow())
                for _ in range(_WARM_UP_RUNS):
                    run(worker)

    def close(self) -> None:
        """Frees the workers, none of which may be lent; the GPU must be current."""
        while self._workers:
            try:
                self._workers.pop().close()
            except BackendError as error:
                # After a failure of the GPU nothing can be freed, and nothing need be.
                _LOG.warning("closing a session: %s", error)
        self._free = LifoQueue()

    def _check_open(self) -> None:
        if not self._workers:
            raise BackendError("this session is closed")
