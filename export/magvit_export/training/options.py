"""How a classifier is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from magvit_runtime.errors import InputError

EmbeddingKind = Literal["bits", "factorized", "table"]
HeadKind = Literal["auto", "linear", "hidden", "conv"]
# Share of each class that is held out where nothing else is asked for.
HOLDOUT = 0.25
# Of each head, where nothing else is asked for.
_PASSES: dict[HeadKind, int] = {"auto": 0, "linear": 0, "hidden": 0, "conv": 120}
_LEARNING_RATE: dict[HeadKind, float] = {"auto": 1e-4, "linear": 1e-4, "hidden": 1e-4, "conv": 2e-3}


@dataclass(frozen=True)
class FitOptions:
    """How a classifier is fitted.

    Attributes:
        embedding: How ids enter a linear head: their bits, two small tables, or one large table.
        width: Numbers a token, of a linear head: 18, or 8 of a table.
        head: linear reads each place by itself, and is fitted in closed form; hidden has a layer
            of random units before it, in closed form too; conv is a small 3-D CNN over the bits of
            token ids, trained by gradient descent. auto is hidden where varied copies are trained
            on and nothing is asked for that only a linear head has; otherwise linear.
        epochs: Epochs of gradient descent, at most. By default a conv head sees each trajectory,
            as it is and varied, 120 times; and a linear head is fitted in closed form alone.
        learning_rate: Of gradient descent: 1e-4 for linear, 2e-3 for conv.
        validation: Share of the training clips on which the best epoch is found; they are never
            the held-out ones. 0 trains on all, for all epochs.
        class_weights: balanced makes all classes count alike, however many clips they have.
        precision: bf16 computes a conv head's training in bfloat16, which is faster on CPUs that
            have it and far slower on others.
        members: Heads of conv, each from a seed of its own; their probabilities are averaged.
        seed: Chooses splits, start weights, the order of clips, and the tables of the embeddings.
    """

    embedding: EmbeddingKind = "bits"
    width: int | None = None
    head: HeadKind = "auto"
    epochs: int | None = None
    learning_rate: float | None = None
    validation: float = 0.1
    class_weights: Literal["none", "balanced"] = "none"
    precision: Literal["fp32", "bf16"] = "fp32"
    members: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.validation < 1:
            raise InputError("`validation` is out of range", found=self.validation)
        if self.token_width < 1 or (self.epochs or 0) < 0 or not self.rate > 0:
            raise InputError("`width`, `epochs` or `learning_rate` is out of range")
        if self.head == "hidden" and not self.suits_hidden:
            raise InputError(
                "a hidden head reads bits, and is fitted in closed form",
                found=f"embedding {self.embedding}, epochs {self.epochs or 0}",
                mend="leave these out, or give --head linear",
            )
        if self.members < 1 or (self.members > 1 and self.head != "conv"):
            raise InputError(
                "`members` is out of range",
                found=f"{self.members} of a {self.head} head",
                expected="1, or more of conv",
            )

    @property
    def suits_hidden(self) -> bool:
        """Whether nothing is asked for that a hidden head lacks."""
        return self.embedding == "bits" and not self.epochs

    @property
    def token_width(self) -> int:
        """Numbers a token, of this embedding where nothing else is asked for."""
        if self.width is None:
            return 8 if self.embedding == "table" else 18
        return self.width

    def most_epochs(self, copies: float) -> int:
        """Epochs, of this head where nothing else is asked for.

        Args:
            copies: Clips of each trajectory, as it is and varied.
        """
        return math.ceil(_PASSES[self.head] / copies) if self.epochs is None else self.epochs

    @property
    def rate(self) -> float:
        """The learning rate, likewise."""
        return _LEARNING_RATE[self.head] if self.learning_rate is None else self.learning_rate


@dataclass(frozen=True)
class TrainingOptions(FitOptions):
    """How a classifier is trained and measured.

    Attributes:
        holdout: Share of each class that is kept out of training, to measure accuracy on: 0.25, or
            0 with folds.
        folds: Measures accuracy by K folds: each trajectory is predicted by a classifier that was
            trained on the other folds. The exported one is then trained on all.
    """

    holdout: float | None = None
    folds: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.share < 1:
            raise InputError("`holdout` is out of range", found=self.holdout, expected="0 ≤ … < 1")
        if self.folds and self.share:
            raise InputError(
                "a classifier is measured by folds or on what is held out",
                found=f"folds {self.folds} and holdout {self.share:g}",
                mend="give one of them",
            )
        if self.folds < 0 or self.folds == 1:
            raise InputError("`folds` is out of range", found=self.folds, expected="2 or more")

    @property
    def share(self) -> float:
        """Share that is held out."""
        if self.holdout is None:
            return 0.0 if self.folds else HOLDOUT
        return self.holdout


DEFAULT_OPTIONS = TrainingOptions()
