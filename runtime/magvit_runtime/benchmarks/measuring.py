"""Times encoders at one batch size: one request at a time, in parts, and kept full."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from magvit_runtime.benchmarks.encoders import Frames, Ids, TimedEncoder
from magvit_runtime.benchmarks.results import Row, Settings
from magvit_runtime.benchmarks.statistics import median_estimate, percentiles, ratio_estimate
from magvit_runtime.benchmarks.timing import Seconds, time_interleaved
from magvit_runtime.benchmarks.workload import InputSet
from magvit_runtime.classifier import Classifier
from magvit_runtime.cuda.stage_times import STAGES
from magvit_runtime.errors import MagvitError, first_line
from magvit_runtime.types import Estimate

# Calls of each worker in a repetition of the mode "kept full". The first and the last call run
# alone for a while, so there must be enough calls for these two to weigh little.
_FULL_CALLS = 3

Advance = Callable[[int], None]


def encode_once(
    encoders: Sequence[TimedEncoder], inputs: Sequence[InputSet], advance: Advance
) -> tuple[dict[str, list[Ids]], dict[str, str]]:
    """Runs every input through every encoder, which also warms them up.

    Returns:
        Ids by the encoder's name, one array for each input; and why an encoder failed, by its name.
    """
    ids: dict[str, list[Ids]] = {}
    failures: dict[str, str] = {}
    for encoder in encoders:
        name = encoder.record.name
        # Peers raise any error of their libraries. The other encoders are still worth timing.
        expected = MagvitError if encoder.record.kind == "ours" else Exception
        try:
            ids[name] = [encoder.encode(one.clips) for one in inputs]
        except expected as error:
            failures[name] = first_line(error)
        advance(len(inputs))
    return ids, failures


def measure_rows(
    encoders: Sequence[TimedEncoder],
    inputs: Sequence[InputSet],
    settings: Settings,
    *,
    classifier: Classifier | None,
    ids: Mapping[str, Sequence[Ids]],
    reference: Sequence[Ids] | None,
    advance: Advance,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """A row for each encoder, all timed in turn at the batch size of the inputs.

    Args:
        encoders: The encoders, warmed up; ratios are to the first.
        inputs: Input sets.
        settings: Repetitions and rounds.
        classifier: Timed beside them, if there is one.
        ids: The ids that each encoder gave for each input.
        reference: The right ids; None leaves the agreement out.
        advance: Called for every round and every repetition done.
        clock: Seconds, for calls one at a time.
    """
    first = ids[encoders[0].record.name]
    calls: dict[str, Callable[[InputSet], object]] = {
        encoder.record.name: _encoding(encoder) for encoder in encoders
    }
    if inputs[0].trajectories:
        calls["render"] = InputSet.render
    if classifier is not None:
        calls["classify"] = _classifying(classifier, first)
    seconds = time_interleaved(
        calls,
        inputs,
        repetitions=settings.repetitions,
        rounds=settings.rounds,
        warm_up=0,
        advance=advance,
        clock=clock,
    )
    around = {name: taken for name, taken in seconds.items() if name not in ids}
    # Taken before the mode "kept full" adds its own times.
    runs = {encoder.record.name: _last_runs(encoder, settings) for encoder in encoders}
    stages = {encoder.record.name: _last_stages(encoder, settings) for encoder in encoders}
    full = {
        workers: _keep_full(encoders, inputs, settings, workers, advance)
        for workers in settings.workers
    }
    base = seconds[encoders[0].record.name]
    return [
        _row(
            name,
            seconds[name],
            base,
            batch=len(inputs[0].clips),
            parts=_parts(seconds[name], runs[name], stages[name], around),
            kept_full={count: full[count][name] for count in full if name in full[count]},
            agreement=None if reference is None else _agreement(ids[name], reference),
        )
        for name in (encoder.record.name for encoder in encoders)
    ]


def _encoding(encoder: TimedEncoder) -> Callable[[InputSet], object]:
    return lambda one: encoder.encode(one.clips)


def _classifying(classifier: Classifier, ids: Sequence[Ids]) -> Callable[[InputSet], object]:
    return lambda one: classifier(ids[one.index].astype(np.int32, copy=False))


def _last_runs(encoder: TimedEncoder, settings: Settings) -> Seconds | None:
    """Seconds of the backend's own run in each of the calls that were just timed."""
    if encoder.run_seconds is None:
        return None
    count = settings.repetitions * settings.rounds
    return np.reshape(encoder.run_seconds[-count:], (settings.repetitions, settings.rounds))


def _last_stages(encoder: TimedEncoder, settings: Settings) -> dict[str, Seconds]:
    """Seconds of each stage on a GPU in each of the calls that were just timed."""
    if encoder.stage_seconds is None:
        return {}
    count = settings.repetitions * settings.rounds
    columns = np.asarray(encoder.stage_seconds[-count:]).T
    shape = settings.repetitions, settings.rounds
    return {name: c.reshape(shape) for name, c in zip(STAGES, columns, strict=True)}


def _parts(
    seconds: Seconds,
    run: Seconds | None,
    stages: Mapping[str, Seconds],
    around: Mapping[str, Seconds],
) -> dict[str, float]:
    """Medians in the order of a request; on a GPU the run is split into its stages and the rest."""
    if run is None:
        return {}
    inside = {"run": run}
    if stages:
        inside = {**stages, "launches and waits": run - sum(stages.values())}
    samples = {"render": around.get("render"), "checks and copies": seconds - run, **inside}
    samples["classify"] = around.get("classify")
    return {name: float(np.median(part)) for name, part in samples.items() if part is not None}


def _keep_full(
    encoders: Sequence[TimedEncoder],
    inputs: Sequence[InputSet],
    settings: Settings,
    workers: int,
    advance: Advance,
) -> dict[str, Estimate]:
    """Clips per second of our own encoders when all workers call at once."""
    ours = [encoder for encoder in encoders if encoder.record.kind == "ours"]
    tasks = workers * _FULL_CALLS
    work: list[Frames] = [inputs[i % len(inputs)].clips for i in range(tasks)]
    with ThreadPoolExecutor(workers) as pool:

        def filling(encoder: TimedEncoder) -> Callable[[list[Frames]], object]:
            return lambda clips: list(pool.map(encoder.encode, clips))

        seconds = time_interleaved(
            {encoder.record.name: filling(encoder) for encoder in ours},
            [work],
            repetitions=settings.repetitions,
            warm_up=0,
            advance=advance,
        )
    clips = sum(map(len, work))
    return {name: _per_second(clips, median_estimate(taken)) for name, taken in seconds.items()}


def _per_second(count: int, seconds: Estimate) -> Estimate:
    return Estimate(count / seconds.value, count / seconds.high, count / seconds.low)


def _agreement(ids: Sequence[Ids], reference: Sequence[Ids]) -> float:
    return float(np.mean([np.mean(a == b) for a, b in zip(ids, reference, strict=True)]))


def _row(
    name: str,
    seconds: Seconds,
    base: Seconds,
    *,
    batch: int,
    parts: dict[str, float],
    kept_full: Mapping[int, Estimate],
    agreement: float | None,
) -> Row:
    median = median_estimate(seconds)
    return Row(
        encoder=name,
        batch=batch,
        seconds=seconds.tolist(),
        latency=percentiles(seconds),
        median=median,
        clips_per_second=_per_second(batch, median),
        ratio=ratio_estimate(seconds, base),
        parts=parts,
        kept_full=dict(kept_full),
        agreement=agreement,
    )
