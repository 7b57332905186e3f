"""Times without loss: numbers, integers too long for a float64, and ISO 8601 time stamps.

A float64 counts seconds since 1970 in steps of 0.2 µs, and nanoseconds in steps of 256. So a time
is kept as an integer and a float64 until its trajectory's first time was subtracted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.columns import Values
from magvit_runtime.clips.trajectories.numbers import BadValue, NumberReader

# Ticks of a time stamp: it is kept in nanoseconds and given in seconds.
NANOSECONDS = 1_000_000_000
# Integers up to this size are exact as float64.
EXACT = 2**53
INT64 = range(-(2**63), 2**63)
# Below this size, a float64 tells times apart that lie 1e-10 from each other.
SMALL = 1e6

_STAMP = re.compile(
    r"(\d{4}-?\d\d-?\d\d)"  # date
    r"(?:[T ](\d\d(?::?\d\d(?::?\d\d)?)?)"  # time of day
    r"(?:[.,](\d{1,9})\d*)?"  # fraction of a second
    r" ?(Z|UTC|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII | re.IGNORECASE,
)
_LONG = re.compile(r"([+-]?)(\d{1,19})(?:\.(\d+))?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Kind = Literal["number", "naive stamp", "stamp with zone"]
_EXPECTED = {
    "number": "a number",
    "naive stamp": "a time without a zone such as 2026-01-31T12:00:00.5, as the file's first is",
    "stamp with zone": "a time with a zone such as 2026-01-31T12:00:00.5Z, as the file's first is",
}


@dataclass(frozen=True, eq=False)
class Times:
    """Times, each (whole + part) / ticks.

    Attributes:
        whole: int64 [times]; all 0 where `part` alone is exact.
        part: float64 [times]; NaN where a time can't be used.
        ticks: Parts of a second for time stamps, which only count from another one; 1 for numbers.
    """

    whole: NDArray[np.int64]
    part: NDArray[np.float64]
    ticks: int


class TimeReader:
    """Reads the times of one file; its first time says whether they are numbers or time stamps."""

    def __init__(self, numbers: NumberReader) -> None:
        self._numbers = numbers
        self._kind: Kind | None = None

    def read(self, values: Values) -> tuple[Times, list[BadValue]]:
        """Reads the values of column t; those that can't be used are returned beside."""
        if isinstance(values, np.ndarray):
            return self._typed(values)
        if self._kind is None:
            self._kind = next(filter(None, map(self._kind_of_usable, values)), None)
        if self._kind in (None, "number"):
            return self._number_times(values)
        return self._stamps(values, self._kind)

    def _kind_of_usable(self, value: object) -> Kind | None:
        kind = _kind(value)
        if kind == "number":
            try:
                float(self._numbers.plain(value))
            except ValueError:
                return None
        return kind

    def _typed(self, values: NDArray[Any]) -> tuple[Times, list[BadValue]]:
        if values.dtype.kind == "M":
            return _from_datetimes(values)
        if values.dtype.kind == "m":
            values = _seconds(values)
        numbers, bad = self._numbers.read("t", values)
        whole = np.zeros(len(values), np.int64)
        if values.dtype.kind in "iu":
            long = (np.abs(numbers) >= EXACT) & (np.abs(numbers) < float(INT64.stop))
            whole[long] = values[long]
            numbers[long] = 0
        return Times(whole, numbers, 1), bad

    def _number_times(self, values: Sequence[Any]) -> tuple[Times, list[BadValue]]:
        numbers, bad = self._numbers.read("t", values)
        whole = np.zeros(len(values), np.int64)
        for place in np.flatnonzero(np.abs(numbers) >= SMALL).tolist():
            if not isinstance(value := values[place], float) and len(str(value)) > 15:
                exact = _without_loss(self._numbers.plain(value))
                if exact is not None:
                    whole[place], numbers[place] = exact
        return Times(whole, numbers, 1), bad

    def _stamps(self, values: Sequence[Any], kind: Kind) -> tuple[Times, list[BadValue]]:
        whole = np.zeros(len(values), np.int64)
        part = np.zeros(len(values))
        bad = []
        for place, value in enumerate(values):
            try:
                if _kind(value) != kind:
                    raise ValueError
                whole[place] = _nanoseconds(str(value))
            except (OverflowError, ValueError):
                part[place] = np.nan
                shown = repr("" if value is None else str(value)[:40])
                message = f"t is {shown}, expected {_EXPECTED[kind]}"
                bad.append(BadValue(place, "not_a_number", message))
        return Times(whole, part, NANOSECONDS), bad


def _kind(value: object) -> Kind:
    # A date without dashes is an integer first.
    text = value.strip() if isinstance(value, str) else ""
    found = None if text.isdigit() else _STAMP.fullmatch(text)
    if not found:
        return "number"
    return "stamp with zone" if found[4] else "naive stamp"


def _nanoseconds(text: str) -> int:
    """Nanoseconds since 1970 of a text that matches `_STAMP`; digits after the ninth are cut."""
    found = _STAMP.fullmatch(text.strip())
    if not found:
        raise ValueError
    date, time, fraction, zone = found.groups()
    zone = "+00:00" if zone is None or zone.upper() in ("Z", "UTC") else zone
    moment = datetime.fromisoformat(f"{date}T{time or '00'}{zone}")
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    return seconds * NANOSECONDS + int((fraction or "").ljust(9, "0"))


def _without_loss(text: str) -> tuple[int, float] | None:
    """Splits a number of more digits than a float64 holds; None where it has no more."""
    found = _LONG.fullmatch(text.strip())
    if not found:
        return None
    sign, digits, fraction = found.groups()
    whole = int(sign + digits)
    if whole not in INT64 or (abs(whole) < EXACT and len(digits + (fraction or "")) <= 17):
        return None
    return whole, float(f"{sign}0.{fraction or 0}")


def _from_datetimes(values: NDArray[Any]) -> tuple[Times, list[BadValue]]:
    nanoseconds = values.astype("datetime64[ns]")
    # NumPy wraps around where a date lies outside the years that 64 bits of nanoseconds reach.
    wrong = np.isnat(values) | (nanoseconds.astype(values.dtype) != values)
    bad = [
        BadValue(place, "not_finite", f"t is {values[place]}, expected a time in 1678 to 2261")
        for place in np.flatnonzero(wrong).tolist()
    ]
    whole = nanoseconds.astype(np.int64)
    whole[wrong] = 0
    return Times(whole, np.where(wrong, np.nan, 0.0), NANOSECONDS), bad


def _seconds(values: NDArray[Any]) -> NDArray[np.float64]:
    seconds = values.astype("timedelta64[ns]").astype(np.int64) / NANOSECONDS
    seconds[np.isnat(values)] = np.nan
    return seconds
