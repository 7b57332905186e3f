"""Tables for a terminal, or for a pipe."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from io import StringIO

from rich.console import Console, JustifyMethod
from rich.table import Table

# Wide enough for all columns where there is no terminal to fit.
_PIPE_WIDTH = 160


def text_table(justify: JustifyMethod, title: str, columns: Sequence[str]) -> Table:
    """An empty table; the first column is left-justified, the others as `justify` says."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, name in enumerate(columns):
        table.add_column(name, justify=justify if i else "left")
    return table


def render_table(table: Table) -> str:
    """A table as text, as wide as the terminal."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH
    text = StringIO()
    Console(file=text, width=width).print(table)
    return text.getvalue().rstrip()
