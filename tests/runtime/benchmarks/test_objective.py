"""The search for a rate, on a queue that is computed: one server, one second a request."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np
import pytest

from magvit_runtime import InputError
from magvit_runtime.benchmarks.objective import HIGHEST, Objective, find_rate, parse_objective
from magvit_runtime.benchmarks.open_loop import Load
from magvit_runtime.benchmarks.statistics import percentiles


class Queue:
    """Random arrivals; each request takes as long as `service` says."""

    def __init__(self, seed: int = 0, service: Callable[[int], float] = lambda _: 1.0) -> None:
        self.random = np.random.default_rng(seed)
        self.service = service
        self.runs: list[tuple[float, int]] = []

    def __call__(self, rate: float, requests: int, give_up: Callable[[float], bool]) -> Load:
        self.runs.append((rate, requests))
        arrivals = self.random.exponential(1 / rate, requests).cumsum()
        free, latencies = 0.0, []
        for number, arrival in enumerate(arrivals):
            free = max(free, arrival) + self.service(number)
            latencies.append(free - arrival)
            if give_up(latencies[-1]):
                break
        values = np.array(latencies)
        return Load(rate, len(values), free, 0.5, percentiles(values), values)


@pytest.mark.parametrize("text", ["p99=3s", "p90=2500ms", "p95 = 4 s"])
@pytest.mark.parametrize("seed", range(3))
def test_the_rate_that_is_told_holds_in_a_longer_run(text: str, seed: int) -> None:
    objective = parse_objective(text)
    search = find_rate(objective, 1.0, Queue(seed))
    assert search.best is not None
    assert 0.1 < search.best.rate < HIGHEST
    longer = Queue(seed + 100)(search.best.rate, 20_000, lambda _: False)
    assert objective.slow(longer) / longer.requests < 1 - objective.share
    # A quarter more wouldn't hold: the search isn't just timid.
    faster = Queue(seed + 200)(min(0.99, 1.25 * search.best.rate + 0.1), 20_000, lambda _: False)
    assert objective.slow(faster) / faster.requests > (1 - objective.share) / 2


def test_what_holds_is_confirmed_by_twice_as_many_requests() -> None:
    queue = Queue()
    objective = parse_objective("p99=3s")
    search = find_rate(objective, 1.0, queue)
    assert queue.runs[-1][1] == 2 * objective.requests
    assert search.tried[-1] == (search.best, True)
    assert [load.rate for load, _ in search.tried] == [rate for rate, _ in queue.runs]


def test_runs_that_cant_hold_end_early() -> None:
    queue = Queue()
    objective = parse_objective("p99=1.5s")
    first, held = find_rate(objective, 1.0, queue).tried[0]
    assert not held
    assert first.requests < objective.requests / 5


def test_an_easy_objective_holds_at_the_highest_rate_and_an_impossible_one_at_none() -> None:
    easy = find_rate(Objective(0.5, 1000.0), 2.0, Queue(service=lambda _: 0.5))
    assert easy.best is not None
    assert easy.best.rate == pytest.approx(2 * HIGHEST)
    assert find_rate(Objective(0.5, 0.9), 1.0, Queue()).best is None


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_few_enough_are_slow_for_one_wrong_run_in_twenty(share: float) -> None:
    objective = Objective(share, 1.0)
    requests = objective.requests
    most = objective.most_slow(requests)

    def at_most(count: int) -> float:
        chance = 1 - share
        return sum(
            comb(requests, i) * chance**i * share ** (requests - i) for i in range(count + 1)
        )

    assert most >= 0
    assert at_most(most) <= 0.05 < at_most(most + 1)


@pytest.mark.parametrize(
    "text", ["", "p99", "50ms", "p99=50", "p99=-5ms", "p99=0ms", "p100=5ms", "p49=5ms", "p9=1s"]
)
def test_objectives_that_arent_any(text: str) -> None:
    with pytest.raises(InputError, match=r"--slo can't be read.*as p99=50ms"):
        parse_objective(text)


def test_objectives_are_written_as_they_are_read() -> None:
    assert str(parse_objective("p99.9 = 0.25 s")) == "p99.9=250ms"
