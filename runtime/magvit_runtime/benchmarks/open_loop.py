"""Requests that arrive by themselves, as in a service, and what they wait.

A closed loop asks again once it has its answer, so a slow moment slows the questions too, and
hides.
Here requests arrive at seeded random moments (a Poisson process), however long others take. A
request's latency begins when it arrives, so it holds the time in the queue.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.benchmarks.statistics import Percentiles, percentiles

_SEED = 0


@dataclass(frozen=True)
class Load:
    """One run of an open loop.

    Attributes:
        rate: Requests a second that were to arrive.
        requests: Requests that were answered.
        seconds: From the first arrival to the last answer.
        busy: Share of that time in which the workers ran requests, 0..1.
        latency: Seconds from a request's arrival to its answer.
        latencies: Of each request, in the order of their arrivals.
    """

    rate: float
    requests: int
    seconds: float
    busy: float
    latency: Percentiles
    latencies: NDArray[np.float64]


def run_open_loop(
    call: Callable[[int], object],
    *,
    rate: float,
    requests: int,
    workers: int,
    give_up: Callable[[float], bool] = lambda _: False,
    advance: Callable[[int], None] = lambda _: None,
) -> Load:
    """Lets requests arrive and answers them in order.

    Args:
        call: Answers the request of a number; any number of threads call it.
        rate: Requests a second, on average.
        requests: Requests in all.
        workers: Requests that may be answered at once.
        give_up: Told the latency of each request; true ends the run before the others arrive.
        advance: Called with 1 after each answer.

    Raises:
        Exception: The first error of a call. Later requests aren't answered.
    """
    gaps = np.random.default_rng(_SEED).exponential(1 / rate, requests)
    waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    done = np.full(requests, np.nan)
    busy = np.zeros(workers)
    failures: list[BaseException] = []
    enough = threading.Event()
    start = time.perf_counter() + gaps[0]
    arrivals = start + np.cumsum(gaps) - gaps[0]

    def serve(worker: int) -> None:
        while (number := waiting.get()) is not None:
            if enough.is_set():
                continue
            begin = time.perf_counter()
            try:
                call(number)
            except BaseException as error:
                failures.append(error)
                enough.set()
                continue
            done[number] = time.perf_counter()
            busy[worker] += done[number] - begin
            advance(1)
            if give_up(float(done[number] - arrivals[number])):
                enough.set()

    threads = [threading.Thread(target=serve, args=(i,), daemon=True) for i in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for number, arrival in enumerate(arrivals):
            _sleep_until(arrival)
            if enough.is_set():
                break
            waiting.put(number)
    finally:
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    answered = ~np.isnan(done)
    latencies = (done - arrivals)[answered]
    seconds = float(done[answered].max() - start)
    share = float(busy.sum() / (workers * seconds))
    return Load(rate, len(latencies), seconds, share, percentiles(latencies), latencies)


def measure_capacity(call: Callable[[int], object], *, workers: int, seconds: float) -> float:
    """Requests a second if the next one is always there.

    Args:
        call: As of `run_open_loop`.
        workers: Requests that may be answered at once.
        seconds: How long to measure; each worker answers one request at least.

    Raises:
        Exception: The first error of a call.
    """
    begin = time.perf_counter()

    def work(worker: int) -> int:
        answered = 0
        while not answered or time.perf_counter() - begin < seconds:
            call(worker + answered * workers)
            answered += 1
        return answered

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(work, range(workers))) / (time.perf_counter() - begin)


def _sleep_until(moment: float) -> None:
    left = moment - time.perf_counter()
    if left > 0:
        time.sleep(left)
