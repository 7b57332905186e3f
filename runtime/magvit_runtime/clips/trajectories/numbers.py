"""Coordinates and times as float64, from text with a decimal point or a decimal comma."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.columns import Values
from magvit_runtime.clips.trajectories.records import LARGEST_NUMBER

_COMMA = re.compile(r"\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*", re.ASCII)
_POINT = re.compile(r"\s*[+-]?(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
# 1,500 is 1500 in some files and 1.5 in others; 0,500 and 1,5 can only be fractions.
_EITHER = re.compile(r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*", re.ASCII)


class BadValue(NamedTuple):
    """A value that can't be used.

    Attributes:
        place: Its place in the column's values.
        problem: Name of the problem, as in `repair`.
        message: One sentence for people.
    """

    place: int
    problem: str
    message: str


class NumberReader:
    """Reads the number columns of one file, and finds out which decimal mark they have.

    A file has one decimal mark. The first block of rows that shows one decides: a number with a
    point means points, a number with a comma that can't be a thousands separator means commas.
    """

    def __init__(self) -> None:
        self.mark: str | None = None

    def look(self, columns: Iterable[Values]) -> None:
        """Looks for the decimal mark in a block's number columns, unless it is known already."""
        if self.mark is None:
            texts = [
                text
                for values in columns
                if not isinstance(values, np.ndarray)
                for text in values
                if isinstance(text, str) and ("," in text or "." in text)
            ]
            if any(map(_POINT.fullmatch, texts)):
                self.mark = "."
            elif any(_COMMA.fullmatch(text) and not _EITHER.fullmatch(text) for text in texts):
                self.mark = ","

    def read(self, column: str, values: Values) -> tuple[NDArray[np.float64], list[BadValue]]:
        """Reads the values of a column.

        Returns:
            float64 [values], NaN where a value can't be used; and those values.
        """
        bad: list[BadValue] = []
        if isinstance(values, np.ndarray):
            numbers = values.astype(np.float64)
        else:
            fast = self._all_numbers(values)
            if fast is None:
                numbers, bad = self._one_by_one(column, values)
            else:
                numbers = fast
        known = {item.place for item in bad}
        # Written so that NaN is found too.
        for place in np.flatnonzero(~(np.abs(numbers) <= LARGEST_NUMBER)).tolist():
            numbers[place] = np.nan
            if place not in known:
                message = (
                    f"{column} is {str(values[place])[:40]}, "
                    f"expected a finite number within ±{LARGEST_NUMBER:g}"
                )
                bad.append(BadValue(place, "not_finite", message))
        return numbers, bad

    def plain(self, value: object) -> str:
        """Gives a value's text with a decimal point; float() reads it if it is a number.

        Raises:
            ValueError: It has another decimal mark than its file, or is written as no reader of
                data files but Python reads it.
        """
        if not isinstance(value, str):
            return str(value)
        text = value
        # Python reads 1_0 as 10.
        if "_" in text or (self.mark == "," and "." in text):
            raise ValueError
        return text.replace(",", ".") if self.mark == "," else text

    def _all_numbers(self, values: Sequence[Any]) -> NDArray[np.float64] | None:
        """Reads values that are all numbers; None where one isn't, or needs a second look."""
        try:
            text = "".join(values)
        except TypeError:  # Not texts alone.
            text = "".join(value for value in values if isinstance(value, str))
        if "_" in text or ("." in text and self.mark == ","):
            return None
        texts: Iterable[Any] = values
        if self.mark == "," and "," in text:
            texts = (str(value).replace(",", ".") for value in values)
        try:
            return np.fromiter(map(float, texts), np.float64, len(values))
        except (OverflowError, TypeError, ValueError):
            return None

    def _one_by_one(
        self, column: str, values: Sequence[Any]
    ) -> tuple[NDArray[np.float64], list[BadValue]]:
        numbers = np.full(len(values), np.nan)
        bad = []
        for place, value in enumerate(values):
            try:
                numbers[place] = float(self.plain("" if value is None else value))
            except (OverflowError, ValueError):
                message = f"{column} is {self._not_a_number(value)}"
                bad.append(BadValue(place, "not_a_number", message))
        return numbers, bad

    def _not_a_number(self, value: object) -> str:
        text = "" if value is None else str(value)
        shown = repr(text[:40])
        if self.mark is None and _EITHER.fullmatch(text):
            return (
                f"{shown}, which may be {text.strip().replace(',', '.')} or "
                f"{text.strip().replace(',', '')}: nothing in the rows before says whether the "
                f"comma is a decimal mark"
            )
        if self.mark == "." and _COMMA.fullmatch(text):
            return f"{shown}, expected a decimal point, as other numbers of the file have"
        if self.mark == "," and _POINT.fullmatch(text):
            return f"{shown}, expected a decimal comma, as other numbers of the file have"
        return f"{shown}, expected a number"
