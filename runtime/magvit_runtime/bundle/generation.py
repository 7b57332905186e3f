"""What bundle.json says of models that generate, and of how their logits agree."""

from __future__ import annotations

from magvit_runtime.bundle.record import Record, Size
from magvit_runtime.sampling import Sampling


class GenerationSpec(Record, frozen=True):
    """What an autoregressive model makes of a class.

    Attributes:
        classes: Classes, 0 .. classes - 1; the number after them is the null class of guidance.
        grid: Rows of tokens, and tokens of a row; they are made row by row.
        pre_bits: Lower bits of an id, which are chosen before the others.
        sampling: The settings that the model's authors use.
    """

    classes: Size
    grid: tuple[Size, Size]
    pre_bits: Size
    sampling: Sampling


class LogitMetrics(Record, frozen=True, tag_field="kind", tag="logits"):
    """How logits agree; `magvit_runtime.agreement.logits` has the terms.

    Attributes:
        rms, max: Error in standard deviations of the reference's logits.
        choices: Tokens' parts compared.
        other_best: Those whose most probable value is another.
        outside_margin: Those among them where the reference's best two lie far apart.
        divergence: Mean Kullback-Leibler divergence from the reference, in nats a part.
    """

    rms: float
    max: float
    choices: int
    other_best: int
    outside_margin: int
    divergence: float
