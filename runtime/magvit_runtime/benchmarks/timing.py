"""Times several ways of doing the same thing in one run, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Input = TypeVar("Input")
Seconds = NDArray[np.float64]


def time_interleaved(
    calls: Mapping[str, Callable[[Input], object]],
    inputs: Sequence[Input],
    *,
    repetitions: int,
    rounds: int = 1,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Seconds]:
    """Seconds of each call; all calls take turns.

    In each round every call runs once, on the same input. Every second round runs them in the
    opposite order (A B, then B A), and pairs of rounds and the input rotate. So a machine that
    slows down, a neighbour's work, and a warm cache from the call before affect all calls alike.

    Args:
        calls: The calls to time, by name; each returns when its work is done.
        inputs: Inputs to rotate, at least one.
        repetitions: Parts of the run whose scatter makes the confidence intervals.
        rounds: Rounds of each repetition.
        warm_up: Rounds before those, which aren't timed.
        clock: Gives seconds since any fixed moment.
        advance: Called for every round done, including the warm-up.

    Returns:
        Seconds of each call by its name: float64 [repetitions, rounds].
    """
    names = list(calls)
    seconds = {name: np.empty(repetitions * rounds) for name in names}
    for i in range(-warm_up, repetitions * rounds):
        first = i // 2 % len(names)
        value = inputs[i % len(inputs)]
        for name in (names[first:] + names[:first])[:: -1 if i % 2 else 1]:
            begin = clock()
            calls[name](value)
            elapsed = clock() - begin
            if i >= 0:
                seconds[name][i] = elapsed
        advance(1)
    return {name: values.reshape(repetitions, rounds) for name, values in seconds.items()}
