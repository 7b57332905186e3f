"""What was counted and verified of this package's models: read from files that scripts write.

`docs/measure/models_page.py` writes what was counted, `docs/measure/verify_models.py` the verdicts.
Reading them needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from typing import Literal

import msgspec

from magvit_runtime.bundle.manifest import Precision, Role, TensorSpec

GRAPHS_FILE, VERDICTS_FILE = "model_graphs.json", "model_verdicts.json"


class GraphFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One role of a model.

    Attributes:
        model: Its name in the catalog.
        role: What the graph does.
        inputs, outputs: For the one item that the model is made for.
        parameters: Weights that the role needs.
        flop: Of convs and matrix products of one item, done directly: 2 a multiplication, those
            with padding included.
    """

    model: str
    role: Role
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int
    flop: int


class RecordedVerdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `magvit verify` said of one model, role, precision and backend, on seeded weights.

    Attributes:
        model, role, precision, backend: What was verified.
        verdict: "unfit" where the backend can't run it on the machine.
        detail: What was measured, what failed, or why it can't be run.
        reference: What it was compared with.
        machine: Processor and system.
        date: ISO 8601.
        versions: Of Python and of the packages that were installed.
    """

    model: str
    role: Role
    precision: Precision
    backend: str
    verdict: Literal["agrees", "disagrees", "failed", "unfit"]
    detail: str
    reference: str
    machine: str
    date: str
    versions: dict[str, str]

    @property
    def subject(self) -> tuple[str, Role, Precision, str]:
        """What was verified; a record has one verdict of it."""
        return self.model, self.role, self.precision, self.backend


def graph_facts() -> tuple[GraphFacts, ...]:
    """Every role of every model that can be exported, in the catalog's order."""
    return msgspec.json.decode(_read(GRAPHS_FILE), type=tuple[GraphFacts, ...])


def recorded_verdicts() -> tuple[RecordedVerdict, ...]:
    """What was verified so far."""
    return msgspec.json.decode(_read(VERDICTS_FILE), type=tuple[RecordedVerdict, ...])


def record_text(records: Iterable[GraphFacts | RecordedVerdict]) -> str:
    """The content of a file of records: a JSON list with one record a line."""
    lines = ",\n".join(msgspec.json.encode(record).decode() for record in records)
    return f"[\n{lines}\n]\n"


def _read(name: str) -> bytes:
    return files("magvit_export").joinpath("data", name).read_bytes()
