"""How logits agree with a reference's, and what that does to the choices that they are made for.

Each row of logits is one choice: of the first or of the second part of a token.

- e = (l − l_ref) / σ, where σ is the standard deviation of the reference's row. rms = √mean(e²), in
  which every choice weighs alike, however many values it has; max = max|e|.
- The best value of a choice is another where the arg-maxima differ. The margin of such a choice is
  the reference's best logit less its second best, in σ.
- The divergence of a choice is Kullback-Leibler's, Σ p_ref·ln(p_ref / p), of the probabilities that
  the logits are of at temperature 1, in nats.
- The rule: rms is within the precision's limit, and no choice whose best value is another has a
  margin above 10·rms. Other choices of the best value are counted, not forbidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.agreement.limits import LOGIT_LIMITS, MARGIN
from magvit_runtime.bundle.manifest import LogitMetrics, Precision
from magvit_runtime.errors import InputError


@dataclass(frozen=True)
class LogitAgreement:
    """How logits agree with a reference; the module's docstring defines the terms.

    Attributes:
        rms, max: Error, in σ.
        choices: Rows compared.
        other_best: Those whose best value is another.
        outside_margin: Those among them with a margin above 10·rms: none is allowed.
        divergence: Mean Kullback-Leibler divergence, in nats.
    """

    rms: float
    max: float
    choices: int
    other_best: int
    outside_margin: int
    divergence: float

    def passes(self, precision: Precision) -> bool:
        """Whether the rule holds for this precision."""
        return self.rms <= LOGIT_LIMITS[precision] and self.outside_margin == 0

    @property
    def metrics(self) -> LogitMetrics:
        """The figures that a stamp keeps."""
        names = LogitMetrics.__struct_fields__
        return LogitMetrics(**{name: getattr(self, name) for name in names})

    @property
    def facts(self) -> dict[str, Any]:
        """All measured figures, ready for JSON."""
        return msgspec.structs.asdict(self.metrics) | {
            "equal_best_rate": 1 - self.other_best / self.choices
        }

    @property
    def summary(self) -> str:
        """One line for people."""
        equal = 1 - self.other_best / self.choices
        return (
            f"rms error of logits {self.rms:.1e} σ, {equal:.2%} of {self.choices} best values "
            f"equal, {self.outside_margin} outside the margin, "
            f"divergence {self.divergence:.1e} nats"
        )


class LogitAccumulator:
    """Compares logits with a reference's, batch by batch."""

    def __init__(self) -> None:
        self._squares: list[NDArray[np.float64]] = []
        self._margins: list[NDArray[np.float64]] = []
        self._divergences: list[NDArray[np.float64]] = []
        self._max = 0.0

    def add(self, logits: NDArray[np.floating], reference: NDArray[np.floating]) -> None:
        """Adds choices: [..., V] and the same of the reference.

        Raises:
            InputError: The shapes differ, or there are no values.
        """
        if logits.shape != reference.shape or not logits.size:
            raise InputError(
                "logits can't be compared with the reference's",
                found=list(logits.shape),
                expected=list(reference.shape),
            )
        ours = logits.reshape(-1, logits.shape[-1]).astype(np.float64)
        theirs = reference.reshape(ours.shape).astype(np.float64)
        spread = theirs.std(axis=1, keepdims=True)
        if not (spread > 0).all():
            raise InputError("the reference's logits have no spread", expected="> 0 in each row")
        error = (ours - theirs) / spread
        self._squares.append((error**2).mean(axis=1))
        self._max = float(np.maximum(self._max, np.abs(error).max()))
        second, best = np.sort(theirs, axis=1)[:, -2:].T
        is_other = ours.argmax(axis=1) != theirs.argmax(axis=1)
        self._margins.append(np.where(is_other, (best - second) / spread[:, 0], np.nan))
        log_ours, log_theirs = _log_softmax(ours), _log_softmax(theirs)
        self._divergences.append((np.exp(log_theirs) * (log_theirs - log_ours)).sum(axis=1))

    def result(self) -> LogitAgreement:
        """The agreement of all batches so far.

        Raises:
            InputError: Nothing was added.
        """
        if not self._squares:
            raise InputError("there is nothing to compare", found="0 choices", expected="1 or more")
        rms = float(np.sqrt(np.concatenate(self._squares).mean()))
        margins = np.concatenate(self._margins)
        other = margins[~np.isnan(margins)]
        return LogitAgreement(
            rms=rms,
            max=self._max,
            choices=margins.size,
            other_best=other.size,
            # Whatever is compared with NaN is outside.
            outside_margin=int((~(other <= MARGIN * rms)).sum()),
            divergence=float(np.concatenate(self._divergences).mean()),
        )


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    logarithms: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms
