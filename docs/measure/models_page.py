"""Writes docs/models.md, and the record of graphs that it and `magvit models` read.

    python docs/measure/models_page.py
    python docs/measure/models_page.py --smoke    # prints the page, writes nothing

Shapes, parameters and FLOP are counted here, on modules without memory; verdicts are those that
verify_models.py kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

import magvit_export
from magvit_export.catalog import CATALOG, CatalogEntry
from magvit_export.families.family import find_family
from magvit_export.model_records import (
    GRAPHS_FILE,
    GraphFacts,
    RecordedVerdict,
    record_text,
    recorded_verdicts,
)
from magvit_export.model_tables import (
    ModelTable,
    graphs_table,
    measured_table,
    published_table,
    verified_table,
    weights_table,
)
from magvit_export.onnx.work import count_work
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.files.atomic_write import atomic_path

PAGE = Path(__file__).parents[1] / "models.md"
RECORD = Path(magvit_export.__file__).parent / "data" / GRAPHS_FILE

INTRODUCTION = """\
# Models

`python docs/measure/models_page.py` writes this page. `magvit models` prints its tables; what was
measured is in `magvit models --json`. FLOP are those of convs and matrix products, 2 a
multiplication.
"""
VERIFIED = """\
On weights that key names generate, against PyTorch in float64: encoders on drawn, noise, flat and
extreme items and real hand movements, decoders on drawn and random ids, at the size that the model
is made for, one item at a time (`python docs/measure/verify_models.py MODEL`, which does what
`magvit verify` does). "Agrees" means within the limits of [parity](parity.md); "not run" that
nobody has run it yet.
"""
PUBLISHED = """\
These are their authors' figures, not ours, of images at the size that the model is made for
([Open-MAGVIT2](https://github.com/TencentARC/SEED-Voken/blob/main/docs/Open-MAGVIT2.md),
[IBQ](https://github.com/TencentARC/SEED-Voken/blob/main/docs/IBQ.md)). The published weights aren't
on the machines where this is developed, so ours aren't measured; [`magvit evaluate`](evaluation.md)
measures them where the weights are.
"""


def main() -> None:
    facts = counted(CATALOG)
    text = page(facts, recorded_verdicts())
    if "--smoke" in sys.argv:
        print(text)
    else:
        write(RECORD, record_text(facts))
        write(PAGE, text)
    print(f"{PAGE.name}: {len(facts)} graphs")


def write(path: Path, content: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(content, encoding="utf-8")


def counted(entries: tuple[CatalogEntry, ...]) -> tuple[GraphFacts, ...]:
    """Shapes, parameters and FLOP of every role that can be exported."""
    return tuple(
        counted_role(entry, role)
        for entry in entries
        if entry.config is not None
        for role in find_family(entry.family).roles
    )


def counted_role(entry: CatalogEntry, role: Role) -> GraphFacts:
    family = find_family(entry.family)
    export = family.roles[role]
    module = export.wrap(family.build(entry.config)).eval()
    item = export.nominal(entry.config)
    inputs = export.inputs(entry.config, item)
    return GraphFacts(
        model=entry.name,
        role=role,
        inputs=inputs,
        outputs=export.outputs(entry.config, item),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        flop=count_work(module, export.example(entry.config, item), inputs).flop,
    )


def page(facts: tuple[GraphFacts, ...], verdicts: tuple[RecordedVerdict, ...]) -> str:
    """The whole of docs/models.md."""
    machines = dict.fromkeys(
        f"- {one.date}: {one.machine}; "
        + ", ".join(f"{name} {version}" for name, version in one.versions.items())
        for one in verdicts
    )
    parts = [
        INTRODUCTION,
        markdown(weights_table(CATALOG, facts)),
        markdown(graphs_table(facts)),
        markdown(verified_table(facts, verdicts), VERIFIED),
        markdown(measured_table(verdicts), "\n".join(machines) + "\n"),
        markdown(published_table(CATALOG), PUBLISHED),
    ]
    return "\n".join(parts)


def markdown(table: ModelTable, text: str = "") -> str:
    """A table under its title, with a text before it."""
    rows = [table.columns, ("---",) * len(table.columns), *table.rows]
    lines = (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    return "\n".join([f"## {table.title}\n", *([text] if text else []), *lines, ""])


if __name__ == "__main__":
    main()
