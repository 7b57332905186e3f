"""Compares two benchmarks of one machine: what became faster or slower, beyond the noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from magvit_runtime.benchmarks.results import Benchmark
from magvit_runtime.benchmarks.statistics import ratio_estimate
from magvit_runtime.errors import InputError
from magvit_runtime.types import Estimate

# The yardstick contains none of our code. If it also got slower, the machine got slower.
YARDSTICK = "ONNX Runtime, plain"

Change = Literal["faster", "slower", "no change"]


@dataclass(frozen=True)
class Compared:
    """One encoder at one batch size in both runs.

    Attributes:
        encoder: Its name.
        batch: Clips of a call.
        measure: "seconds", or "times the yardstick" if both runs have it.
        old, new: The measure in each.
        change: "no change" if the intervals overlap.
    """

    encoder: str
    batch: int
    measure: Literal["seconds", "times the yardstick"]
    old: Estimate
    new: Estimate
    change: Change


def compare_benchmarks(old: Benchmark, new: Benchmark) -> list[Compared]:
    """Compares all of our encoders that are in both.

    If both runs also timed plain ONNX Runtime, the ratios to it are compared, because a slower
    machine doesn't change them. Otherwise seconds are compared.

    Raises:
        InputError: They are of other machines, models or settings, or have no row in common.
    """
    for name, was, now in (
        ("machine", old.machine.cpu, new.machine.cpu),
        ("number of CPUs", old.machine.cpus, new.machine.cpus),
        ("GPUs", old.machine.gpus, new.machine.gpus),
        ("model", old.model, new.model),
        ("weights", old.weights, new.weights),
        ("number of threads", old.settings.threads, new.settings.threads),
        ("clips", old.settings.clips, new.settings.clips),
        ("role", old.settings.role, new.settings.role),
        ("clip shape", old.settings.clip_shape, new.settings.clip_shape),
    ):
        if was != now:
            raise InputError(
                f"benchmarks can't be compared: the {name} differs", found=now, expected=was
            )
    compared = list(_pairs(old, new))
    if not compared:
        raise InputError("the two benchmarks have no encoder and batch size in common")
    return compared


def _pairs(old: Benchmark, new: Benchmark) -> Iterator[Compared]:
    ours = {encoder.name for encoder in new.encoders if encoder.kind == "ours"}
    before = {(row.encoder, row.batch): row for row in old.rows}
    after = {(row.encoder, row.batch): row for row in new.rows}
    for key, row in after.items():
        if key not in before or row.encoder not in ours:
            continue
        yardstick = (YARDSTICK, row.batch)
        if yardstick in before and yardstick in after:
            was = ratio_estimate(before[key].samples, before[yardstick].samples)
            now = ratio_estimate(row.samples, after[yardstick].samples)
            yield Compared(*key, "times the yardstick", was, now, _change(was, now))
        else:
            was, now = before[key].median, row.median
            yield Compared(*key, "seconds", was, now, _change(was, now))


def _change(old: Estimate, new: Estimate) -> Change:
    if old.overlaps(new):
        return "no change"
    return "slower" if new.value > old.value else "faster"
