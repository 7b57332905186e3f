"""Ids, labels and column names as text: what is missing, and what a table did to other types."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

# What R, pandas, polars, Excel, MySQL, Python and old C libraries write where a value is missing.
MISSING = frozenset(
    {
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NAN",
        "NULL",
        "NaN",
        "NaT",
        "None",
        "\\N",
        "n/a",
        "nan",
        "null",
    }
)
# What polars, JSON's writers and R make of booleans, as Python writes them.
_BOOLEANS = {"true": "True", "TRUE": "True", "false": "False", "FALSE": "False"}
# 1.0, 12.000 and R's 1e+05; but neither 007.0 nor 1e5, which may well be names.
_WHOLE_FLOAT = re.compile(r"-?(?:0|[1-9]\d{0,29})\.0*|-?[1-9](?:\.\d+)?e\+\d{2}", re.ASCII)


def name_of(value: object) -> str:
    """Gives an id or a label as text.

    A float that is whole is the integer that it was before a missing value made its column one of
    floats: 1.0, "1.0" and 1 are all "1". A boolean is "True" or "False", however it is written.

    Returns:
        The text without blanks around it; the empty string for a missing value: None, NaN, or a
        text of `MISSING`.
    """
    if isinstance(value, bytes):
        value = _decoded(value)
    if isinstance(value, str):
        text = value.strip()
        if text in MISSING:
            return ""
        return str(int(Decimal(text))) if _is_whole(text) else _BOOLEANS.get(text, text)
    if value is None or value != value:
        return ""
    if isinstance(value, float | Decimal) and value == value // 1:
        return str(int(value))
    return str(value.normalize() if isinstance(value, Decimal) else value)


def names_of(values: Sequence[object]) -> list[str]:
    """Gives `name_of` for each value, fast where values are texts or come again and again."""
    if set(map(type, values)) <= {str}:
        known = {value: name_of(value) for value in set(values)}
        return [known[value] for value in values]
    # 1, 1.0 and True are one key of a dictionary, and aren't one name.
    return [name_of(value) for value in values]


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def column_name(name: str) -> str:
    """Gives a column's name as it is compared: without case, and without blanks around it."""
    return name.strip().casefold()


def _is_whole(text: str) -> bool:
    # The last sign is the cheap test that most names fail.
    if text[-1] not in "0123456789." or not _WHOLE_FLOAT.fullmatch(text):
        return False
    number = Decimal(text)
    return number == number.to_integral_value()
