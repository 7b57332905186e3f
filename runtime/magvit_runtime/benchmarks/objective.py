"""The highest rate of requests at which a latency objective holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, lgamma, log, log1p

from magvit_runtime.benchmarks.open_loop import Load
from magvit_runtime.benchmarks.statistics import samples_needed
from magvit_runtime.errors import InputError

_FORM = re.compile(r"p(\d{2}(?:\.\d+)?)\s*=\s*(\d+(?:\.\d+)?)\s*(ms|s)")
# The chance to call an objective held although more requests than allowed are too slow.
_RISK = 0.05
# The search halves the range of rates until it is this narrow, in shares of the capacity.
_STEP = 0.05
HIGHEST = 0.95  # Above, the queue of random arrivals grows without end.

# Runs an open loop: its rate, its requests, and when to give up.
Run = Callable[[float, int, Callable[[float], bool]], Load]


@dataclass(frozen=True)
class Objective:
    """A latency objective, as "p99=50ms".

    Attributes:
        share: Share of requests that must be in time, 0.5 to below 1.
        seconds: The time.
    """

    share: float
    seconds: float

    @property
    def requests(self) -> int:
        """Requests of a run that can tell whether it holds."""
        return samples_needed(self.share)

    def most_slow(self, requests: int) -> int:
        """How many of a run's requests may be too slow, so that it shows that the objective holds.

        So few that, if more than the allowed share were too slow in truth, no more than one run in
        twenty would show as few (binomial; requests of one queue aren't independent, so the true
        risk is somewhat higher).

        Args:
            requests: Requests of the run, `self.requests` or more.
        """
        count, chance = 0, _exactly(0, requests, 1 - self.share)
        while chance <= _RISK:
            count += 1
            chance += _exactly(count, requests, 1 - self.share)
        return count - 1

    def slow(self, load: Load) -> int:
        """How many requests of a run were too slow."""
        return int((load.latencies > self.seconds).sum())

    def __str__(self) -> str:
        return f"p{self.share * 100:g}={self.seconds * 1e3:g}ms"


@dataclass(frozen=True)
class Search:
    """What a search for the highest rate found.

    Attributes:
        objective: What must hold.
        capacity: Requests a second if the next one is always there.
        best: The run of the highest rate at which it held; None if it held at none.
        tried: All runs, in their order, and whether it held.
    """

    objective: Objective
    capacity: float
    best: Load | None
    tried: tuple[tuple[Load, bool], ...]


def parse_objective(text: str) -> Objective:
    """Reads "p99=50ms" or "p90=1.5s".

    Raises:
        InputError: It is nothing like that.
    """
    found = _FORM.fullmatch(text.strip())
    share = float(found[1]) / 100 if found else 0.0
    seconds = float(found[2]) * (1e-3 if found[3] == "ms" else 1) if found else 0.0
    if not 0.5 <= share < 1 or seconds <= 0:
        raise InputError(
            "--slo can't be read", found=repr(text), expected="as p99=50ms or p90=1.5s"
        )
    return Objective(share, seconds)


def find_rate(objective: Objective, capacity: float, run: Run) -> Search:
    """Searches up to `HIGHEST` of the capacity; the rate that it tells held in two runs.

    Args:
        objective: What must hold.
        capacity: Requests a second if the next one is always there.
        run: Runs an open loop.
    """
    tried: list[tuple[Load, bool]] = []

    def holds(share: float, requests: int) -> bool:
        left = objective.most_slow(requests)

        def too_many(latency: float) -> bool:
            nonlocal left
            left -= latency > objective.seconds
            return left < 0

        load = run(share * capacity, requests, too_many)
        held = objective.slow(load) <= objective.most_slow(requests)
        tried.append((load, held))
        return held

    low, high = 0.0, HIGHEST
    if holds(high, objective.requests):
        low = high
    while high - low > _STEP:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle, objective.requests) else (low, middle)
    # A run that was lucky once isn't so again, over twice as many requests.
    while low > 0 and not holds(low, 2 * objective.requests):
        low = max(0.0, low - _STEP)
    return Search(objective, capacity, tried[-1][0] if low > 0 else None, tuple(tried))


def _exactly(count: int, draws: int, chance: float) -> float:
    """Probability of so many successes."""
    ways = lgamma(draws + 1) - lgamma(count + 1) - lgamma(draws - count + 1)
    return exp(ways + count * log(chance) + (draws - count) * log1p(-chance))
