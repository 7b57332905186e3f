"""The option `--columns`: one argument, with commas between the names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token


def _split(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    return tuple(tokens[0].value.split(","))


ColumnNames = Annotated[tuple[str, ...], Parameter(converter=_split, n_tokens=1, negative="")]
