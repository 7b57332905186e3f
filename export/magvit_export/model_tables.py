"""What is known of models as tables, for the terminal and for docs/models.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from magvit_export.catalog import CODES_USED, LPIPS, PSNR, RFID, SSIM, CatalogEntry
from magvit_export.model_records import GraphFacts, RecordedVerdict
from magvit_runtime.bundle.manifest import Precision, Role, TensorSpec

# What every model is verified with; docs/measure/verify_models.py takes them from here.
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
BACKENDS = ("onnxruntime", "native")
FIGURES = {RFID: 2, PSNR: 2, SSIM: 2, LPIPS: 4, CODES_USED: 0}  # With their decimals.
NOT_RUN = "not run"
_WORDS = {"unfit": "can't run"}


@dataclass(frozen=True)
class ModelTable:
    """One table.

    Attributes:
        title: What it says.
        columns: Their names.
        rows: Cells, as many as columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def weights_table(entries: Iterable[CatalogEntry], facts: Sequence[GraphFacts]) -> ModelTable:
    """What each model is, where its weights are, and what can be exported of it."""
    return ModelTable(
        "Models and their weights on the Hugging Face hub",
        ("model", "what it is", "weights", "licence of the weights", "export"),
        tuple(
            (entry.name, entry.summary, _place(entry), entry.licence, _roles(entry, facts))
            for entry in entries
        ),
    )


def graphs_table(facts: Iterable[GraphFacts]) -> ModelTable:
    """Inputs, outputs and size of each role."""
    return ModelTable(
        "Graphs, for N items of the size that the model is made for",
        ("model", "role", "input", "output", "parameters", "GFLOP an item"),
        tuple(
            (
                one.model,
                one.role,
                _tensors(one.inputs),
                _tensors(one.outputs),
                f"{one.parameters / 1e6:.1f} M",
                f"{one.flop / 1e9:,.0f}",
            )
            for one in facts
        ),
    )


def verified_table(facts: Iterable[GraphFacts], verdicts: Iterable[RecordedVerdict]) -> ModelTable:
    """In short what `magvit verify` said of each role, precision and backend."""
    found = {one.subject: one for one in verdicts}
    ways = [(precision, backend) for precision in PRECISIONS for backend in BACKENDS]

    def cell(model: str, role: Role, way: tuple[Precision, str]) -> str:
        verdict = found.get((model, role, *way))
        return NOT_RUN if verdict is None else _WORDS.get(verdict.verdict, verdict.verdict)

    return ModelTable(
        "Verified on seeded weights",
        ("model", "role", *(f"{precision} {backend}" for precision, backend in ways)),
        tuple(
            (one.model, one.role, *(cell(one.model, one.role, way) for way in ways))
            for one in facts
        ),
    )


def measured_table(verdicts: Iterable[RecordedVerdict]) -> ModelTable:
    """All that was verified, with what was measured."""
    return ModelTable(
        "What was measured",
        ("model", "role", "precision", "backend", "verdict", "measured", "date"),
        tuple(
            (
                one.model,
                one.role,
                one.precision,
                one.backend,
                _WORDS.get(one.verdict, one.verdict),
                one.detail,
                one.date,
            )
            for one in verdicts
        ),
    )


def published_table(entries: Iterable[CatalogEntry]) -> ModelTable:
    """Figures that publishers give for their weights."""
    return ModelTable(
        "Published by the weights' authors, on ImageNet's validation images",
        ("model", *(f"{figure}, published" for figure in FIGURES)),
        tuple(
            (entry.name, *(_figure(entry, figure) for figure in FIGURES))
            for entry in entries
            if entry.published
        ),
    )


def _place(entry: CatalogEntry) -> str:
    return "/".join(filter(None, (entry.repo, entry.file))) or "-"


def _roles(entry: CatalogEntry, facts: Iterable[GraphFacts]) -> str:
    """The roles that are on record; models of other packages have none there."""
    roles = ", ".join(one.role for one in facts if one.model == entry.name)
    return roles or ("not yet" if entry.config is None else "yes")


def _tensors(specs: Iterable[TensorSpec]) -> str:
    shown = [
        f"{spec.name} {spec.dtype} [{','.join(('N', *map(str, spec.shape[1:])))}]"
        for spec in specs
        if spec.kind != "state"
    ]
    states = sum(spec.kind == "state" for spec in specs)
    return ", ".join([*shown, *([f"a state of {states} tensors"] if states else [])])


def _figure(entry: CatalogEntry, figure: str) -> str:
    value = entry.published.get(figure)
    return "-" if value is None else f"{value:.{FIGURES[figure]}f}"
