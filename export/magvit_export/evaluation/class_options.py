"""What `magvit evaluate classes` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from magvit_export.training.options import FitOptions, HeadKind
from magvit_runtime.clips.generated import KINDS, GenerationOptions
from magvit_runtime.errors import InputError

# Data that need no file.
LIBRAS, GENERATED = "libras", "generated"


@dataclass(frozen=True)
class MethodOptions:
    """How methods are trained.

    Attributes:
        heads: Of tokens, separated by commas: linear, in closed form; hidden, linear after a layer
            of random units; conv, a small 3-D CNN.
        epochs: Of conv at most. By default it sees each trajectory 120 times, as it is and varied.
        members: Convs whose probabilities are averaged.
        augment: Varied copies of each trajectory that classifiers of tokens train on besides.
        variations: Of these, copies of each tested trajectory that its tokens' classifiers are
            asked about too; what they say of all is averaged.
        fine_tune: Epochs in which the last tokenizer's encoder is trained too, on each training
            part anew: a further row. Seconds a clip and epoch.
        net_steps: Steps of gradient descent of the net on coordinates.
        seed: Of splits, start weights and variations.
    """

    heads: str = "linear,hidden,conv"
    epochs: int | None = None
    members: int = 1
    augment: int = 0
    variations: int = 0
    fine_tune: int = 0
    net_steps: int = 800
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("augment", 0), ("variations", 0), ("fine_tune", 0), ("net_steps", 1)):
            if getattr(self, name) < least:
                found = getattr(self, name)
                raise InputError(f"`{name}` is out of range", found=found, expected=f"≥ {least}")
        self.each_head()

    def each_head(self) -> tuple[FitOptions, ...]:
        """Options of each head.

        Raises:
            InputError: A head is unknown, or an option is out of range.
        """
        kinds: dict[str, HeadKind] = {"linear": "linear", "hidden": "hidden", "conv": "conv"}
        names = self.heads.split(",")
        if unknown := [name for name in names if name not in kinds]:
            raise InputError("a head is unknown", found=unknown[0], expected=", ".join(kinds))
        conv = FitOptions(head="conv", epochs=self.epochs, members=self.members, seed=self.seed)
        return tuple(
            conv if name == "conv" else FitOptions(head=kinds[name], seed=self.seed)
            for name in names
        )


@dataclass(frozen=True)
class GeneratedOptions:
    """Which trajectories are generated.

    Attributes:
        per_class: Trajectories a class to train on, separated by commas: a column each.
        noise: Standard deviations of what is added to coordinates, separated by commas: a table
            each. Curves are 1 to 2 long.
        test_per_class: Further trajectories a class, which all are tested on.
        training_sets: Trainings of each size at most, on sets that share nothing.
        kinds: Classes, separated by commas, as of `magvit generate-trajectories`; or all.
        samples: Points of each trajectory.
        dimensions: 3, seen by a camera; or 2.
    """

    per_class: str = "25,50,100,500"
    noise: str = "0.05,0.1"
    test_per_class: int = 125
    training_sets: int = 2
    kinds: str = "linear,circular,helical,parabolic"
    samples: int = 32
    dimensions: Literal[2, 3] = 3

    @property
    def sizes(self) -> tuple[int, ...]:
        """Trajectories a class to train on.

        Raises:
            InputError: They are no numbers from 2 on.
        """
        sizes = tuple(
            int(part) if part.strip().isdecimal() else 0 for part in self.per_class.split(",")
        )
        if min(*sizes, self.test_per_class + 1, self.training_sets + 1) < 2:
            raise InputError(
                "`per_class`, `test_per_class` or `training_sets` is out of range",
                found=f"{self.per_class}, {self.test_per_class}, {self.training_sets}",
                expected="whole numbers, from 2 on a class",
            )
        return sizes

    def levels(self, seed: int) -> tuple[GenerationOptions, ...]:
        """What is generated at each level of noise.

        Raises:
            InputError: An option is out of range.
        """
        count = max(self.sizes) + self.test_per_class
        kinds = tuple(KINDS) if self.kinds == "all" else tuple(self.kinds.split(","))
        try:
            levels = [float(part) for part in self.noise.split(",")]
        except ValueError as error:
            raise InputError("`noise` is no number", found=self.noise) from error
        return tuple(
            GenerationOptions(kinds, count, self.samples, noise, self.dimensions, seed)
            for noise in levels
        )


DEFAULT_METHODS, DEFAULT_GENERATED = MethodOptions(), GeneratedOptions()
