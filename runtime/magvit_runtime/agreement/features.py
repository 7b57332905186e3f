"""How features agree with a reference's.

- e: a value minus the reference's, in units of r = √mean(reference²) over all values of one output.
  rms = √mean(e²), max = max|e|; of the outputs (features, pooled features), the worse.
- cosine: between an item's features and the reference's, taken as two vectors. 1 where both are
  zero.
- The rule: rms is within the precision's limit L, and no item's cosine is below 1 − (10·L)²/2, the
  cosine of an error ten times the limit: a mean over all must not hide one item that is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.agreement.limits import FEATURE_RMS_LIMITS, MARGIN
from magvit_runtime.bundle.manifest import FeatureMetrics, Kind, Precision
from magvit_runtime.errors import InputError


def least_cosine(precision: Precision) -> float:
    """The smallest cosine of an item that the rule allows."""
    return 1 - (MARGIN * FEATURE_RMS_LIMITS[precision]) ** 2 / 2


@dataclass(frozen=True)
class FeatureAgreement:
    """How features agree with a reference; the module's docstring defines the terms.

    Attributes:
        rms, max: Error in units of the reference's rms.
        least_cosine: The smallest cosine of an item.
        values: Values compared.
        item_cosines: The smallest cosine of each item by its name.
    """

    rms: float
    max: float
    least_cosine: float
    values: int
    item_cosines: dict[str, float]

    def passes(self, precision: Precision) -> bool:
        """Whether the rule holds for this precision."""
        limit = FEATURE_RMS_LIMITS[precision]
        return self.rms <= limit and self.least_cosine >= least_cosine(precision)

    @property
    def metrics(self) -> FeatureMetrics:
        """What a stamp keeps."""
        names = FeatureMetrics.__struct_fields__
        return FeatureMetrics(**{name: getattr(self, name) for name in names})

    @property
    def facts(self) -> dict[str, Any]:
        """All that was measured, ready for JSON."""
        return msgspec.structs.asdict(self.metrics) | {"item_cosines": self.item_cosines}

    @property
    def summary(self) -> str:
        """One line for people."""
        return (
            f"rms error {self.rms:.2g} of the features' rms, at most {self.max:.2g}; "
            f"least cosine 1 - {1 - self.least_cosine:.1g}"
        )


@dataclass
class _Sums:
    """Of one output: squares of errors and of the reference, values, and the largest error."""

    errors: float = 0.0
    reference: float = 0.0
    values: int = 0
    largest: float = 0.0


@dataclass
class FeatureAccumulator:
    """Compares features with a reference's, batch by batch; holds sums only."""

    _sums: dict[Kind, _Sums] = field(default_factory=dict)
    _cosines: dict[str, float] = field(default_factory=dict)

    def add(
        self,
        kind: Kind,
        features: NDArray[np.floating],
        reference: NDArray[np.floating],
        names: Sequence[str],
    ) -> None:
        """Adds a batch of one output: floats [N, ...] of one shape; `names` are those of the items.

        Raises:
            InputError: The shapes differ, or there are no values.
        """
        if features.shape != reference.shape or not features.size:
            raise InputError(
                "features can't be compared with the reference's",
                found=f"{list(features.shape)} and {list(reference.shape)}",
                expected="two arrays of one shape",
            )
        ours = features.astype(np.float64).reshape(len(features), -1)
        theirs = reference.astype(np.float64).reshape(len(reference), -1)
        sums = self._sums.setdefault(kind, _Sums())
        with np.errstate(invalid="ignore", over="ignore"):
            errors = ours - theirs
            sums.errors += float(np.vdot(errors, errors))
            sums.reference += float(np.vdot(theirs, theirs))
            sums.values += errors.size
            # NaN is a larger error than any.
            sums.largest = float(np.maximum(sums.largest, np.abs(errors).max()))
            for name, own, their in zip(names, ours, theirs, strict=True):
                cosine = min(_cosine(own, their), self._cosines.get(name, 1.0))
                self._cosines[name] = cosine

    def result(self) -> FeatureAgreement:
        """The agreement of all batches so far.

        Raises:
            InputError: Nothing was added.
        """
        if not self._sums:
            raise InputError("there is nothing to compare", found="0 items", expected="1 or more")
        sums = self._sums.values()
        return FeatureAgreement(
            rms=max(_ratio(np.sqrt(one.errors), np.sqrt(one.reference)) for one in sums),
            max=max(_ratio(one.largest, np.sqrt(one.reference / one.values)) for one in sums),
            least_cosine=min(self._cosines.values()),
            values=sum(one.values for one in sums),
            item_cosines=dict(self._cosines),
        )


def _ratio(error: float, unit: float) -> float:
    """An error in some unit; infinite where it is no number, or the unit is 0 and it isn't."""
    if not np.isfinite(error) or (unit == 0 and error > 0):
        return float("inf")
    return 0.0 if error == 0 else float(error / unit)


def _cosine(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    lengths = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    if not np.isfinite(lengths):
        return -1.0
    if lengths == 0:
        return 1.0 if not ours.any() and not theirs.any() else 0.0
    return min(1.0, float(ours @ theirs) / lengths)
