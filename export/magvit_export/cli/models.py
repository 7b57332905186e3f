"""`magvit models`: what can be exported, and where the weights are."""

from __future__ import annotations

from io import StringIO

import msgspec
from rich.console import Console
from rich.table import Table

from magvit_export.catalog import all_models
from magvit_runtime.cli.outcome import Outcome


def models() -> Outcome:
    """Lists the models that this package knows, and where their weights are published."""
    found = all_models()
    table = Table("model", "what it is", "weights", "export", box=None, pad_edge=False)
    for entry in found:
        weights = f"{entry.repo}{f'/{entry.file}' if entry.file else ''}" if entry.repo else "-"
        table.add_row(entry.name, entry.summary, weights, "yes" if entry.config else "not yet")
    text = StringIO()
    Console(file=text, width=200).print(table)
    facts = {"models": [msgspec.to_builtins(entry) for entry in found]}
    return Outcome(facts, "\n".join(line.rstrip() for line in text.getvalue().splitlines()))
