"""Several devices behind one session: each takes the next batch as soon as it is free.

Run on CPUs and on stand-ins for GPUs; not on a machine with several GPUs yet.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from queue import Queue
from typing import cast

import numpy as np

from magvit_runtime.backends.backend import Array, Capabilities, DeviceSession, Session
from magvit_runtime.bundle.manifest import GraphRecord
from magvit_runtime.closing import Closing
from magvit_runtime.errors import BackendError
from magvit_runtime.tracing import Facts, carried, span

Inputs = Mapping[str, Array]


@dataclass(frozen=True)
class PooledDevice:
    """One device of a pool.

    Attributes:
        name: "cuda:1" or "cpu".
        session: Its session.
    """

    name: str
    session: Session

    @property
    def slots(self) -> int:
        """Batches that it computes at once."""
        return max(1, self.session.capabilities.workers)

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> list[Array]:
        """Runs one batch; a failure names the device."""
        try:
            return run_one(self.session, inputs, outputs)
        except BackendError as error:
            raise BackendError(
                f"{self.name} failed: {error.what}",
                found=error.found,
                expected=error.expected,
                mend=error.mend,
            ) from error


class DevicePool(Closing):
    """Sessions of one graph on several devices, as one session.

    Thread-safe: any number of threads may call `run` and `run_each`; a batch waits for the first
    device that is free. When a device fails, the call whose batch it had fails and names it.

    Args:
        graph: What the sessions run.
        devices: The devices, whose sessions are closed with the pool.

    Raises:
        BackendError: Their graphs are of several precisions, so that a batch's ids would depend on
            the device that is free.
    """

    def __init__(self, graph: GraphRecord, devices: Sequence[PooledDevice]) -> None:
        facts = [device.session.capabilities for device in devices]
        if len({fact.precision for fact in facts}) > 1:
            raise BackendError(
                "the devices would run graphs of several precisions",
                found=", ".join(
                    f"{device.name} {fact.backend} {fact.precision}"
                    for device, fact in zip(devices, facts, strict=True)
                ),
                mend="pass `precision`, or build an engine for each of the GPUs",
            )
        self._graph = graph
        self._devices = tuple(devices)
        self._free: Queue[PooledDevice] = Queue()
        most = max(device.slots for device in devices)
        # One of each first: two batches go to two devices.
        order = [one for turn in range(most) for one in devices if turn < one.slots]
        for device in order:
            self._free.put(device)
        self._slots = len(order)
        self._threads = ThreadPoolExecutor(self._slots, "magvit-device")
        self._warming_up = threading.Lock()
        self._is_closed = False

    @property
    def capabilities(self) -> Capabilities:
        """What it runs on; texts that differ between the devices are joined."""
        facts = [device.session.capabilities for device in self._devices]

        def joined(texts: Iterable[str]) -> str:
            return "; ".join(dict.fromkeys(filter(None, texts)))

        # A forked process may open again what runs on CPUs alone, and knows that by this text.
        places = sorted((fact.device for fact in facts), key=lambda text: text.startswith("CPU"))
        return replace(
            facts[0],
            backend=joined(fact.backend for fact in facts),
            version=joined(fact.version for fact in facts),
            device=joined(places),
            reason=joined(fact.reason for fact in facts),
            launches=joined(fact.launches for fact in facts),
            workers=self._slots,
            device_arrays=False,
            devices=tuple(device.name for device in self._devices),
        )

    @property
    def stage_times(self) -> None:
        """None: its batches run on several clocks."""

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> list[Array]:
        """Runs one batch on the first device that is free; see `Session.run`."""
        if self._is_closed:
            raise BackendError("this session is closed")
        device = self._free.get()
        try:
            return device.run(inputs, outputs)
        finally:
            self._free.put(device)

    def run_each(self, batches: Iterator[Inputs], outputs: Sequence[str]) -> Iterator[list[Array]]:
        """Runs batches on all devices at once, and gives their outputs in the batches' order.

        A slow device delays its own batches alone. At most twice as many batches as can be computed
        at once are read ahead; outputs wait until those before them are given.

        Raises:
            BackendError: A device failed; outputs before its batch are given first, as they are
                when `batches` itself fails.
        """
        room = threading.Semaphore(2 * self._slots)
        waiting: deque[Future[list[Array]]] = deque()
        failure: Exception | None = None
        try:
            while True:
                try:
                    inputs = next(batches)
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                room.acquire()
                waiting.append(self._threads.submit(carried(self.run), inputs, outputs))
                waiting[-1].add_done_callback(lambda _: room.release())
                while waiting and waiting[0].done():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
        if failure is not None:
            raise failure

    def warm_up(self, shape: Sequence[int]) -> None:
        """Makes every device ready for batches of a shape; see `DeviceSession.warm_up`."""
        given = self._graph.inputs[0]
        zeros = {given.name: np.zeros(tuple(shape), given.dtype)}
        with self._warming_up:
            for device in self._devices:
                if device.session.capabilities.device_arrays:
                    cast(DeviceSession, device.session).warm_up(shape)
                else:
                    device.run(zeros, [output.name for output in self._graph.outputs])

    def close(self) -> None:
        """Waits for batches under way, and frees all sessions."""
        self._is_closed = True
        self._threads.shutdown(cancel_futures=True)
        for device in self._devices:
            device.session.close()


def open_pool(
    names: Sequence[str], open_one: Callable[[int], tuple[GraphRecord, Session]]
) -> tuple[GraphRecord, DevicePool]:
    """Opens several devices as one session; those opened before an error are closed.

    Args:
        names: Names of the devices.
        open_one: Opens the device at a place of `names`.

    Raises:
        BackendError: A device can't be opened, and is named; or as `DevicePool`.
    """
    opened: list[PooledDevice] = []
    with ExitStack() as undo:
        for place, name in enumerate(names):
            try:
                graph, session = open_one(place)
            except BackendError as error:
                raise BackendError(
                    f"{name} can't be opened: {error.what}", found=error.found, mend=error.mend
                ) from error
            undo.callback(session.close)
            opened.append(PooledDevice(name, session))
        pool = DevicePool(graph, opened)
        undo.pop_all()
    return graph, pool


def run_each(
    session: Session, batches: Iterator[Inputs], outputs: Sequence[str]
) -> Iterator[list[Array]]:
    """Runs batches one after another, or on all devices of a pool; the outputs come in order."""
    if isinstance(session, DevicePool):
        return session.run_each(batches, outputs)
    return (run_one(session, inputs, outputs) for inputs in batches)


def run_one(session: Session, inputs: Inputs, outputs: Sequence[str]) -> list[Array]:
    """Runs one batch, on the first free device of a pool."""
    if isinstance(session, DevicePool):
        return session.run(inputs, outputs)
    with span("run", lambda: _facts(session, inputs)):
        return session.run(inputs, outputs)


def _facts(session: Session, inputs: Inputs) -> Facts:
    first, *_ = inputs.values()
    return {"batch": len(first), "device": session.capabilities.device}
