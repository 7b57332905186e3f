"""Requests that arrive by themselves, answered by sleeping, which takes no CPU."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from magvit_runtime import BackendError
from magvit_runtime.benchmarks.open_loop import measure_capacity, run_open_loop

pytestmark = pytest.mark.alone


def test_every_request_is_answered_once_and_waits_at_least_for_its_answer() -> None:
    asked: list[int] = []
    lock = threading.Lock()

    def call(number: int) -> None:
        with lock:
            asked.append(number)
        time.sleep(0.002)

    load = run_open_loop(call, rate=200, requests=100, workers=4)
    assert sorted(asked) == list(range(100))
    assert (load.requests, load.rate, load.latencies.size) == (100, 200, 100)
    assert load.latencies.min() >= 0.002
    # 100 random gaps at 200 a second last half a second, give or take a fifth.
    assert load.seconds > 0.3
    assert 0 < load.busy <= 1


def test_arrivals_dont_wait_for_answers() -> None:
    """Twice the capacity arrives, so each request waits longer than the one before it."""
    load = run_open_loop(lambda _: time.sleep(0.01), rate=200, requests=60, workers=1)
    assert np.median(load.latencies[-20:]) > np.median(load.latencies[:20]) + 0.1
    assert load.latency.max > 0.2
    assert load.busy > 0.9


def test_more_workers_answer_more_at_once() -> None:
    def slowest(workers: int) -> float:
        answer = lambda _: time.sleep(0.02)  # noqa: E731
        return run_open_loop(answer, rate=200, requests=100, workers=workers).latency.max

    assert slowest(8) < slowest(1) / 2


def test_arrivals_are_seeded() -> None:
    moments: list[list[float]] = []
    for _ in range(2):
        begun: list[float] = []
        moments.append(begun)
        run_open_loop(
            lambda _, begun=begun: begun.append(time.perf_counter()),  # type: ignore[misc]
            rate=50,
            requests=20,
            workers=1,
        )
    first, second = (np.array(one) - one[0] for one in moments)
    assert np.abs(first - second).max() < 0.2
    assert np.diff(first).max() > 2 * np.diff(first).min()


def test_a_run_ends_early_when_it_has_seen_enough() -> None:
    slow: list[float] = []

    def give_up(latency: float) -> bool:
        slow.append(latency)
        return len(slow) == 3

    load = run_open_loop(lambda _: None, rate=1000, requests=100_000, workers=1, give_up=give_up)
    assert 3 <= load.requests < 100


def test_the_first_error_ends_a_run() -> None:
    def call(number: int) -> None:
        if number == 2:
            raise BackendError("out of memory")

    with pytest.raises(BackendError, match="out of memory"):
        run_open_loop(call, rate=1000, requests=100_000, workers=2)
    with pytest.raises(BackendError, match="out of memory"):
        measure_capacity(call, workers=1, seconds=1000)


def test_the_capacity_is_what_all_workers_answer() -> None:
    one = measure_capacity(lambda _: time.sleep(0.02), workers=1, seconds=0.3)
    four = measure_capacity(lambda _: time.sleep(0.02), workers=4, seconds=0.3)
    assert 10 < one <= 50
    assert four > 2 * one
    assert measure_capacity(lambda _: time.sleep(0.1), workers=1, seconds=0) <= 10
