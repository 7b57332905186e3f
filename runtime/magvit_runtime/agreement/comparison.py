"""Chooses the kind of comparison that a graph's outputs call for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from magvit_runtime.agreement.features import FeatureAccumulator, FeatureAgreement
from magvit_runtime.agreement.logits import LogitAccumulator, LogitAgreement
from magvit_runtime.agreement.margins import MarginAccumulator, MarginAgreement
from magvit_runtime.agreement.pixels import PixelAccumulator, PixelAgreement
from magvit_runtime.agreement.probabilities import FusedAgreement, add_probabilities
from magvit_runtime.agreement.signs import SignAccumulator, SignAgreement
from magvit_runtime.bundle.manifest import GraphRecord, Kind, Metrics, Precision
from magvit_runtime.errors import InputError
from magvit_runtime.types import Array

# The outputs of a run, by kind.
Outputs = Mapping[Kind, Array]


class Agreement(Protocol):
    """How one graph or engine agrees with a reference."""

    @property
    def metrics(self) -> Metrics:
        """The figures that a stamp keeps."""

    @property
    def facts(self) -> dict[str, Any]:
        """All measured figures, ready for JSON."""

    @property
    def summary(self) -> str:
        """One line for people."""

    def passes(self, precision: Precision) -> bool:
        """Whether it agrees as well as this precision must."""


class Comparison(Protocol):
    """Compares runs with a reference's, batch by batch."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The outputs that are compared."""

    @property
    def reference_kinds(self) -> tuple[Kind, ...]:
        """The kinds among them that the reference must give."""

    def add(self, ours: Outputs, reference: Outputs, names: Sequence[str]) -> None:
        """Adds a batch; `names` are those of its clips."""

    def result(self) -> Agreement:
        """The agreement of all batches so far."""


class _Signs:
    kinds: tuple[Kind, ...] = ("ids", "latents")
    # Its ids follow from its latents.
    reference_kinds: tuple[Kind, ...] = ("latents",)

    def __init__(self) -> None:
        self._accumulator = SignAccumulator()

    def add(self, ours: Outputs, reference: Outputs, names: Sequence[str]) -> None:
        self._accumulator.add(ours["latents"], reference["latents"], ours["ids"], names)

    def result(self) -> SignAgreement:
        return self._accumulator.result()


class _Margins:
    kinds: tuple[Kind, ...] = ("ids", "margins")
    reference_kinds: tuple[Kind, ...] = ("ids", "margins")

    def __init__(self) -> None:
        self._accumulator = MarginAccumulator()

    def add(self, ours: Outputs, reference: Outputs, names: Sequence[str]) -> None:  # noqa: ARG002
        self._accumulator.add(ours["ids"], ours["margins"], reference["ids"], reference["margins"])

    def result(self) -> MarginAgreement:
        return self._accumulator.result()


class _Pixels:
    kinds: tuple[Kind, ...] = ("pixels",)
    reference_kinds: tuple[Kind, ...] = ("pixels",)

    def __init__(self) -> None:
        self._accumulator = PixelAccumulator()

    def add(self, ours: Outputs, reference: Outputs, names: Sequence[str]) -> None:
        self._accumulator.add(ours["pixels"], reference["pixels"], names)

    def result(self) -> PixelAgreement:
        return self._accumulator.result()


class _Probabilities:
    kinds: tuple[Kind, ...] = ("probabilities",)
    reference_kinds: tuple[Kind, ...] = ("probabilities",)

    def __init__(self) -> None:
        self._accumulator = LogitAccumulator()

    def add(self, ours: Outputs, reference: Outputs, names: Sequence[str]) -> None:  # noqa: ARG002
        add_probabilities(self._accumulator, ours["probabilities"], reference["probabilities"])

    def result(self) -> LogitAgreement:
        return self._accumulator.result()


class _Fused:
    def __init__(self, ids: _Signs | _Margins) -> None:
        self.kinds: tuple[Kind, ...] = (*ids.kinds, "probabilities")
        own = dict.fromkeys((*ids.reference_kinds, "ids", "probabilities"))
        self.reference_kinds: tuple[Kind, ...] = tuple(own)
        self._ids = ids
        self._accumulator = LogitAccumulator()
        self._clips = self._equal = 0

    def add(self, ours: Outputs, reference: Outputs, names: Sequence[str]) -> None:
        self._ids.add(ours, reference, names)
        differs = (ours["ids"] != reference["ids"]).reshape(len(names), -1).any(axis=1)
        self._clips += len(names)
        self._equal += int((~differs).sum())
        if not differs.all():
            found, expected = (one["probabilities"][~differs] for one in (ours, reference))
            add_probabilities(self._accumulator, found, expected)

    def result(self) -> FusedAgreement:
        classes = self._accumulator.result() if self._equal else None
        return FusedAgreement(self._ids.result(), classes, self._clips)


class _Features:
    def __init__(self, kinds: tuple[Kind, ...]) -> None:
        self.kinds = self.reference_kinds = kinds
        self._accumulator = FeatureAccumulator()

    def add(self, ours: Outputs, reference: Outputs, names: Sequence[str]) -> None:
        for kind in self.kinds:
            self._accumulator.add(kind, ours[kind], reference[kind], names)

    def result(self) -> FeatureAgreement:
        return self._accumulator.result()


def new_comparison(graph: GraphRecord) -> Comparison:
    """An empty comparison of the kind that a graph's outputs call for.

    Raises:
        InputError: No comparison exists for such outputs.
    """
    kinds = {spec.kind for spec in graph.outputs}
    for of_ids in (_Margins, _Signs):
        if kinds.issuperset(of_ids.kinds):
            return _Fused(of_ids()) if "probabilities" in kinds else of_ids()
    for kind in (_Pixels, _Probabilities):
        if kinds.issuperset(kind.kinds):
            return kind()
    if "features" in kinds:
        return _Features(("features", "pooled") if "pooled" in kinds else ("features",))
    raise InputError(
        f"outputs of {graph.file} can't be compared",
        found=", ".join(sorted(kinds)),
        expected="ids with latents, ids with margins, pixels, probabilities, or features",
    )
