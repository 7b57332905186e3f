"""Turns of interleaved timing, on a clock that moves only when a call moves it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from magvit_runtime.benchmarks.timing import time_interleaved


class Clock:
    """A clock, and calls that each take a known time and note when they ran, and on what."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[tuple[str, str]] = []

    def __call__(self) -> float:
        return self.now

    def call(self, name: str, seconds: float) -> Callable[[str], None]:
        def run(value: str) -> None:
            self.now += seconds
            self.log.append((name, value))

        return run


def test_each_sample_is_the_time_of_its_own_call() -> None:
    clock = Clock()
    calls = {"a": clock.call("a", 2.0), "b": clock.call("b", 5.0)}
    seconds = time_interleaved(calls, ["x"], repetitions=3, rounds=2, clock=clock)
    assert seconds["a"].shape == (3, 2)
    assert np.all(seconds["a"] == 2.0)
    assert np.all(seconds["b"] == 5.0)


def test_order_and_inputs_rotate_and_all_calls_of_a_round_meet_one_input() -> None:
    clock = Clock()
    calls = {name: clock.call(name, 1.0) for name in "abc"}
    time_interleaved(calls, ["x", "y"], repetitions=4, warm_up=0, clock=clock)
    rounds = [clock.log[i : i + 3] for i in range(0, 12, 3)]
    assert ["".join(name for name, _ in turn) for turn in rounds] == ["abc", "cba", "bca", "acb"]
    assert [{value for _, value in turn} for turn in rounds] == [{"x"}, {"y"}, {"x"}, {"y"}]


def test_a_slow_first_call_stays_in_the_warm_up() -> None:
    clock = Clock()
    pending = [100.0]

    def run(_: str) -> None:
        clock.now += pending.pop() if pending else 1.0

    steps: list[int] = []
    seconds = time_interleaved(
        {"a": run}, ["x"], repetitions=2, warm_up=1, clock=clock, advance=steps.append
    )
    assert seconds["a"].tolist() == [[1.0], [1.0]]
    assert sum(steps) == 3
