"""The cost of a million clips: measured if this machine has a price, otherwise projected."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from magvit_runtime.benchmarks.results import Benchmark, Work
from magvit_runtime.errors import InputError

Positive = Annotated[float, msgspec.Meta(gt=0)]


class Instance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One type of machine that can be rented.

    Attributes:
        type: Its name.
        usd_per_hour: Its price.
        precision: The precision of `tflops`.
        tflops, gb_per_s: Peaks from its data sheet, for projections.
    """

    type: str
    usd_per_hour: Positive
    precision: Literal["fp32", "fp16"]
    tflops: Positive
    gb_per_s: Positive


class PriceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prices of one day.

    Attributes:
        date: The day.
        region: The region of the prices.
        source: Where the prices are from.
        checked: Whether somebody compared them with the seller's own list.
        instances: The types.
    """

    date: dt.date
    region: str
    source: str
    checked: bool
    instances: list[Instance]


@dataclass(frozen=True)
class Cost:
    """What a million clips cost on one type of machine.

    Attributes:
        type: The machine's type.
        usd_per_hour: Its price.
        encoder: The encoder that ran, or the projection's assumption.
        clips_per_second: Measured, or the most that the data sheet allows.
        is_projection: Whether it is a projection. No direct conv reaches it, but a conv that skips
            work, as the native backend's on a CPU, can be faster.
    """

    type: str
    usd_per_hour: float
    encoder: str
    clips_per_second: float
    is_projection: bool

    @property
    def usd_per_million(self) -> float:
        """US dollars for a million clips, the machine always busy."""
        return self.usd_per_hour / 3600 / self.clips_per_second * 1e6


def read_prices(path: Path | None = None) -> PriceTable:
    """Reads a price table; None reads the one that comes with the package.

    Raises:
        InputError: The file can't be read, or is no such table.
    """
    try:
        source = files("magvit_runtime.benchmarks") / "prices.toml" if path is None else path
        return msgspec.toml.decode(source.read_bytes(), type=PriceTable)
    except OSError as error:
        raise InputError(f"can't read {path}", found=error.strerror) from error
    except msgspec.DecodeError as error:
        raise InputError(
            f"{path} is no price table",
            found=str(error),
            expected="the fields of magvit_runtime/benchmarks/prices.toml",
        ) from error


def costs(benchmark: Benchmark, prices: PriceTable, instance_type: str) -> list[Cost]:
    """Costs of all types of machines in a table.

    Args:
        benchmark: The benchmark.
        prices: The table.
        instance_type: The type of this machine; "" for none in the table.

    Returns:
        For this machine's type, the fastest measured time of our encoders. For every other type, a
        projection: the graph's convs, done directly, at the peaks of its data sheet. Projections
        are left out if the graph's work isn't known.
    """
    return [
        cost
        for instance in prices.instances
        if (
            cost := _measured(benchmark, instance)
            if instance.type == instance_type
            else _projected(benchmark.work, instance)
        )
    ]


def _measured(benchmark: Benchmark, instance: Instance) -> Cost:
    ours = {encoder.name for encoder in benchmark.encoders if encoder.kind == "ours"}
    speeds = [
        (max(row.clips_per_second.value, *(full.value for full in row.kept_full.values())), row)
        for row in benchmark.rows
        if row.encoder in ours
    ]
    speed, row = max(speeds, key=lambda pair: pair[0])
    name = f"{row.encoder}, batch {row.batch}"
    return Cost(instance.type, instance.usd_per_hour, name, speed, is_projection=False)


def _projected(work: Work | None, instance: Instance) -> Cost | None:
    if work is None:
        return None
    # The work was counted on the float32 graph; half precision moves half the bytes.
    moved = work.map_bytes * (0.5 if instance.precision == "fp16" else 1)
    seconds = max(work.flop / (instance.tflops * 1e12), moved / (instance.gb_per_s * 1e9))
    name = f"direct {instance.precision} convs at the data sheet's peak"
    return Cost(instance.type, instance.usd_per_hour, name, 1 / seconds, is_projection=True)
