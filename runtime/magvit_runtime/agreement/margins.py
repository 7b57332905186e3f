"""How the ids of a codebook agree with a reference's.

A token's id is the row that fits best, so an error matters only where two rows fit almost equally.
The encoder gives the margin of each token: the best row's score minus the second's.

- m, m_ref: margins and the reference's; σ_m: standard deviation of m_ref.
- e = (m − m_ref) / σ_m over the tokens whose id is the reference's (another row's margin is another
  quantity). rms = √mean(e²), max = max|e|.
- The allowed-change rule: rms is within the precision's limit, and no token whose id changed has
  m_ref > 10·σ_m·rms. Changes below are counted, not forbidden.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.agreement.limits import MARGIN, MARGIN_RMS_LIMITS
from magvit_runtime.bundle.manifest import MarginMetrics, Precision
from magvit_runtime.errors import InputError


@dataclass(frozen=True)
class MarginAgreement:
    """How ids and margins agree with a reference; the module's docstring defines the terms.

    Attributes:
        rms, max: Error of the margins, in σ_m.
        tokens: Tokens compared.
        changed_tokens: Tokens whose id differs.
        outside_margin: Changed tokens with m_ref > 10·σ_m·rms: none is allowed.
    """

    rms: float
    max: float
    tokens: int
    changed_tokens: int
    outside_margin: int

    def passes(self, precision: Precision) -> bool:
        """Whether the allowed-change rule holds for this precision."""
        return self.rms <= MARGIN_RMS_LIMITS[precision] and self.outside_margin == 0

    @property
    def metrics(self) -> MarginMetrics:
        """The figures that a stamp keeps."""
        names = MarginMetrics.__struct_fields__
        return MarginMetrics(**{name: getattr(self, name) for name in names})

    @property
    def facts(self) -> dict[str, Any]:
        """All measured figures, ready for JSON."""
        return msgspec.structs.asdict(self.metrics) | {
            "token_change_rate": self.changed_tokens / self.tokens
        }

    @property
    def summary(self) -> str:
        """One line for people."""
        return (
            f"rms error of margins {self.rms:.1e} σ, {self.changed_tokens} of {self.tokens} tokens "
            f"changed, {self.outside_margin} outside the margin"
        )


@dataclass
class MarginAccumulator:
    """Compares ids and margins with a reference's, batch by batch. Holds all margins."""

    _margins: list[NDArray[np.float64]] = field(default_factory=list)
    _references: list[NDArray[np.float64]] = field(default_factory=list)
    _changed: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(
        self,
        ids: NDArray[np.integer],
        margins: NDArray[np.floating],
        reference_ids: NDArray[np.integer],
        reference_margins: NDArray[np.floating],
    ) -> None:
        """Adds a batch; all four are [N, ...] of one shape.

        Raises:
            InputError: The shapes differ, or there are no values.
        """
        shapes = {a.shape for a in (ids, margins, reference_ids, reference_margins)}
        if len(shapes) != 1 or not ids.size:
            raise InputError(
                "ids and margins can't be compared with the reference's",
                found=", ".join(str(list(shape)) for shape in sorted(shapes)),
                expected="four arrays of one shape",
            )
        self._margins.append(margins.astype(np.float64).ravel())
        self._references.append(reference_margins.astype(np.float64).ravel())
        self._changed.append((ids != reference_ids).ravel())

    def result(self) -> MarginAgreement:
        """The agreement of all batches so far.

        Raises:
            InputError: Nothing was added, or all of the reference's margins are equal.
        """
        if not self._changed:
            raise InputError("there is nothing to compare", found="0 clips", expected="1 or more")
        reference, changed = np.concatenate(self._references), np.concatenate(self._changed)
        spread = float(reference.std())
        if not spread > 0:
            raise InputError("the reference's margins have no spread", found=spread, expected="> 0")
        error = (np.concatenate(self._margins) - reference)[~changed] / spread
        # Without an unchanged token there is no error to measure, and nothing agrees.
        rms = float(np.sqrt(np.mean(error**2))) if error.size else np.inf
        outside = changed & ~(reference <= MARGIN * rms * spread) if np.isfinite(rms) else changed
        return MarginAgreement(
            rms=rms,
            max=float(np.abs(error).max(initial=0.0)),
            tokens=changed.size,
            changed_tokens=int(changed.sum()),
            outside_margin=int(outside.sum()),
        )
