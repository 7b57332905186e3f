"""`magvit models`: what can be exported, where the weights are, and what has been verified."""

from __future__ import annotations

from io import StringIO

import msgspec
from rich.console import Console
from rich.table import Table

from magvit_export.catalog import all_models
from magvit_export.model_records import graph_facts, recorded_verdicts
from magvit_export.model_tables import (
    ModelTable,
    graphs_table,
    published_table,
    verified_table,
    weights_table,
)
from magvit_runtime.cli.outcome import Outcome

_WIDTH = 400  # No row is broken or cut; a terminal wraps what it has no room for.


def models() -> Outcome:
    """Lists the models that this package knows: weights, graphs, and what has been verified.

    docs/models.md has the same, and `--json` what was measured besides.
    """
    entries, graphs, verdicts = all_models(), graph_facts(), recorded_verdicts()
    tables = (
        weights_table(entries, graphs),
        graphs_table(graphs),
        verified_table(graphs, verdicts),
        published_table(entries),
    )
    facts = {
        "models": [
            msgspec.to_builtins(entry)
            | {
                "graphs": [msgspec.to_builtins(one) for one in graphs if one.model == entry.name],
                "verdicts": [
                    msgspec.to_builtins(one) for one in verdicts if one.model == entry.name
                ],
            }
            for entry in entries
        ]
    }
    return Outcome(facts, "\n\n".join(map(_text, tables)))


def _text(table: ModelTable) -> str:
    shown = Table(*table.columns, box=None, pad_edge=False)
    for row in table.rows:
        shown.add_row(*row)
    text = StringIO()
    console = Console(file=text, width=_WIDTH)
    console.print(table.title, highlight=False)
    console.print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
