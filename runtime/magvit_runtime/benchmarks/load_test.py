"""How long requests wait when they arrive by themselves: at one rate, or at the best that holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from magvit_runtime.backends.backend import Candidate
from magvit_runtime.benchmarks.encoders import TimedEncoder, open_option
from magvit_runtime.benchmarks.machine import MachineRecord, describe_machine
from magvit_runtime.benchmarks.objective import Objective, find_rate
from magvit_runtime.benchmarks.open_loop import Load, measure_capacity, run_open_loop
from magvit_runtime.benchmarks.results import EncoderRecord
from magvit_runtime.benchmarks.statistics import Percentiles
from magvit_runtime.benchmarks.workload import InputSet
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.hardware.gpu_states import GpuState, gpu_states

SCHEMA_VERSION = 1
CAPACITY_SECONDS = 10.0


class LoadRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests of one clip that arrived at one rate.

    Attributes:
        rate: Requests a second that were to arrive, a Poisson process.
        requests: Requests that were answered; a run that can't hold the objective ends early.
        seconds: From the first arrival to the last answer.
        busy: Share of that time in which the workers ran requests, 0..1.
        latency: Seconds from a request's arrival to its answer, the queue included.
        held: Whether the objective held; None without one.
    """

    rate: float
    requests: int
    seconds: float
    busy: float
    latency: Percentiles
    held: bool | None = None


class LoadTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of a load test.

    Attributes:
        schema_version: Version of this schema.
        created: When, ISO 8601 in UTC.
        model, weights: The model and weights that ran.
        machine: The machine, before.
        gpus_after: Clocks, power and throttling of its GPUs at the end.
        encoder: What answered.
        workers: Requests that could be answered at once.
        capacity: Requests a second if the next one is always there.
        runs: All runs, in their order.
        objective: What had to hold, as "p99=50ms"; "" if nothing.
        best_rate: The highest rate at which it held; None if it held at none, or there was none.
    """

    schema_version: int
    created: str
    model: str
    weights: str
    machine: MachineRecord
    gpus_after: list[GpuState]
    encoder: EncoderRecord
    workers: int
    capacity: float
    runs: list[LoadRun]
    objective: str = ""
    best_rate: float | None = None


def run_load_test(
    bundle: Bundle,
    option: Candidate,
    inputs: list[InputSet],
    *,
    threads: int,
    workers: int,
    goal: Objective | Callable[[float], float],
    seconds: float,
    advance: Callable[[int], None] = lambda _: None,
) -> LoadTest:
    """Measures the capacity, then one rate, or searches the highest at which an objective holds.

    Args:
        bundle: The bundle.
        option: The way to run it.
        inputs: Requests, which rotate.
        threads: CPU threads of one run.
        workers: Requests that may be answered at once.
        goal: The objective; or the rate, as a function of the capacity.
        seconds: How long the one rate is run.
        advance: Called with 1 after each answer.

    Raises:
        BackendError: The backend can't load it, or failed.
        BundleError: A file was changed.
    """
    machine = describe_machine()
    batch = len(inputs[0].clips)
    encoder = open_option(bundle, option, batch, threads)
    try:
        answer = _answering(encoder, inputs)
        for number in range(2 * len(inputs)):  # Every input once more than what warms up needs.
            answer(number)
        capacity = measure_capacity(answer, workers=workers, seconds=CAPACITY_SECONDS)

        def run(rate: float, requests: int, give_up: Callable[[float], bool]) -> Load:
            return run_open_loop(
                answer,
                rate=rate,
                requests=requests,
                workers=workers,
                give_up=give_up,
                advance=advance,
            )

        best = None
        if isinstance(goal, Objective):
            search = find_rate(goal, capacity, run)
            runs = [_record(load, held) for load, held in search.tried]
            best = search.best
        else:
            rate = goal(capacity)
            runs = [_record(run(rate, max(1, round(rate * seconds)), lambda _: False), None)]
    finally:
        encoder.close()
    return LoadTest(
        schema_version=SCHEMA_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=bundle.manifest.model,
        weights=weights_label(bundle),
        machine=machine,
        gpus_after=list(gpu_states()),
        encoder=encoder.record,
        workers=workers,
        capacity=capacity,
        runs=runs,
        objective=str(goal) if isinstance(goal, Objective) else "",
        best_rate=None if best is None else best.rate,
    )


def _answering(encoder: TimedEncoder, inputs: list[InputSet]) -> Callable[[int], object]:
    return lambda number: encoder.encode(inputs[number % len(inputs)].clips)


def _record(load: Load, held: bool | None) -> LoadRun:
    return LoadRun(load.rate, load.requests, load.seconds, load.busy, load.latency, held)
