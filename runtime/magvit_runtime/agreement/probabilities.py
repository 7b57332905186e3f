"""How probabilities of classes agree with a reference's.

They are compared by their logarithms, which are the logits less a number that is the same for all
classes of an item; `magvit_runtime.agreement.logits` has the terms and the rule. A probability
below `LEAST` counts as that: it decides nothing, and float32 has few digits for it.

Where one graph goes from clips to probabilities, its ids are compared as an encoder's. Rounding may
change an id whose latents are near zero, and then the probabilities of its clip change by more than
rounding. So probabilities are compared for the clips whose ids are all the reference's; the others
are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.agreement.logits import LogitAccumulator, LogitAgreement
from magvit_runtime.agreement.margins import MarginAgreement
from magvit_runtime.agreement.signs import SignAgreement
from magvit_runtime.bundle.manifest import MarginMetrics, Precision, SignMetrics

LEAST = 1e-30


def add_probabilities(
    accumulator: LogitAccumulator,
    probabilities: NDArray[np.float32],
    reference: NDArray[np.float32],
) -> None:
    """Adds items: [N, K] and the same of the reference.

    Raises:
        InputError: The shapes differ, or the reference's classes are all equally probable.
    """
    accumulator.add(_logarithms(probabilities), _logarithms(reference))


def _logarithms(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    # NaN stays NaN, and agrees with nothing.
    return np.log(np.maximum(probabilities.astype(np.float64), LEAST))


@dataclass(frozen=True)
class FusedAgreement:
    """How a graph from clips to probabilities agrees; the module's docstring has the terms.

    Attributes:
        ids: How its encoder agrees.
        probabilities: How the probabilities of clips of equal ids agree; None if there are none.
        clips: Clips compared.
    """

    ids: SignAgreement | MarginAgreement
    probabilities: LogitAgreement | None
    clips: int

    def passes(self, precision: Precision) -> bool:
        """Whether both rules hold for this precision."""
        of_classes = self.probabilities is None or self.probabilities.passes(precision)
        return self.ids.passes(precision) and of_classes

    @property
    def metrics(self) -> SignMetrics | MarginMetrics:
        """The figures that a stamp keeps: the encoder's."""
        return self.ids.metrics

    @property
    def facts(self) -> dict[str, Any]:
        """All measured figures, ready for JSON."""
        classes = self.probabilities
        return self.ids.facts | {
            "clips": self.clips,
            "clips_of_equal_ids": classes.choices if classes else 0,
            "probabilities": classes.facts if classes else None,
        }

    @property
    def summary(self) -> str:
        """One line for people."""
        classes = self.probabilities
        equal = f"{classes.choices if classes else 0} of {self.clips} clips of equal ids"
        return f"{self.ids.summary}; {equal}" + (f": {classes.summary}" if classes else "")
