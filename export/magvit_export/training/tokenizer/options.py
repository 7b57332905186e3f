"""How a tokenizer is trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from magvit_export.families.magvit.config import TokenizerConfig
from magvit_runtime.errors import InputError

MOST_STEPS = 10_000_000
LARGEST_SIZE = 1024
_STAGE = re.compile(r"(\d{1,5}):(\d{1,8})", re.ASCII)
_RANGES: dict[str, tuple[float, float]] = {
    "drawn": (0, 1),
    "absolute": (0, 1),
    "commitment": (0, 1000),
    "certainty": (0, 1000),
    "variety": (0, 1000),
    "frames": (1, 1025),
    "batch": (1, 4096),
    "learning_rate": (1e-9, 1),
    "warm_up": (0, MOST_STEPS),
    "decay": (0, 0.999999),
    "clip_norm": (1e-6, 1e6),
    "weight_decay": (0, 1),
    "seed": (0, 2**63 - 1),
    "every": (1, MOST_STEPS),
    "threads": (0, 1024),
}


@dataclass(frozen=True)
class LossWeights:
    """How much each term of the loss counts.

    Attributes:
        drawn: Share of the reconstruction that drawn pixels and their surroundings have in all, 0
            to 1; the flat ground has the rest.
        absolute: Share of absolute differences in the reconstruction, 0 to 1; squares have the
            rest.
        commitment: Weight of the distance between latents and their signs.
        certainty: Weight of each token's own entropy, which is minimised.
        variety: Weight of the entropy of a batch's tokens of drawn places, which is maximised.
    """

    drawn: float = 0.5
    absolute: float = 0.2
    commitment: float = 0.25
    certainty: float = 0.1
    variety: float = 0.1


@dataclass(frozen=True)
class Stage:
    """Steps at one size of clips.

    Attributes:
        size: Height and width of the clips, in pixels.
        steps: Steps of the optimizer.
    """

    size: int
    steps: int


@dataclass(frozen=True)
class TokenizerOptions(LossWeights):
    """How a tokenizer is trained.

    Attributes:
        drawn, absolute, commitment, certainty, variety: As of `LossWeights`.
        stages: SIZE:STEPS of each stage, one after the other, separated by commas.
        frames: Frames of a clip.
        batch: Clips a step.
        learning_rate: The highest of each stage; it falls along half a cosine to a twentieth.
        warm_up: Steps in which the learning rate rises.
        decay: Of the moving average of the weights, which is what is written.
        clip_norm: Longer gradients are cut to this length.
        weight_decay: Of AdamW.
        precision: bf16 computes convs in bfloat16; weights, losses and the optimizer stay float32.
        seed: Chooses all clips.
        every: Steps from one checkpoint, with its held-out figures, to the next.
        device: cpu, cuda or cuda:N.
        threads: Of torch on the CPU; 0 is as many as torch takes.
        compile: Compiles encoder and decoder by `torch.compile`, once for each size. Needs a C++
            compiler, or Triton for a GPU.

    Raises:
        InputError: A value can't be used; the message says which and what is expected.
    """

    stages: str = "64:5000,128:500"
    frames: int = 17
    batch: int = 1
    learning_rate: float = 1e-3
    warm_up: int = 50
    decay: float = 0.999
    clip_norm: float = 1.0
    weight_decay: float = 1e-4
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    every: int = 250
    device: str = "cpu"
    threads: int = 0
    compile: bool = False

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            # Written so that NaN fails too.
            if not low <= getattr(self, name) <= high:
                found, expected = getattr(self, name), f"{low} to {high}"
                raise InputError(f"`{name}` is out of range", found=found, expected=expected)
        if self.precision not in ("fp32", "bf16"):
            raise InputError("`precision` is unknown", found=self.precision, expected="fp32, bf16")
        if not all(stage.steps >= 1 for stage in self.plan) or self.steps > MOST_STEPS:
            expected = f"steps of at least 1 a stage, {MOST_STEPS} in all"
            raise InputError("`stages` is out of range", found=self.stages, expected=expected)

    @property
    def plan(self) -> tuple[Stage, ...]:
        """The stages."""
        parts = [_STAGE.fullmatch(part.strip()) for part in self.stages.split(",")]
        if not all(parts):
            expected = "SIZE:STEPS of each stage, as 64:5000,128:500"
            raise InputError("`stages` can't be read", found=repr(self.stages), expected=expected)
        return tuple(Stage(int(part[1]), int(part[2])) for part in parts if part)

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.plan)

    def stage_of(self, step: int) -> tuple[Stage, int]:
        """The stage of a step, counted from 0, and the step's place in it."""
        for stage in self.plan:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        raise IndexError(step)


def check_sizes(options: TokenizerOptions, config: TokenizerConfig) -> None:
    """Refuses sizes of clips that an architecture doesn't give back.

    Raises:
        InputError: A stage's size or the number of frames can't be used.
    """
    stride = config.spatial_stride
    least = 2 * max(stride, 8)
    for size in (stage.size for stage in options.plan):
        if size % stride or not least <= size <= LARGEST_SIZE:
            expected = f"a multiple of {stride} from {least} to {LARGEST_SIZE}"
            raise InputError("a stage's size can't be trained on", found=size, expected=expected)
    if (options.frames - 1) % config.temporal_stride:
        expected = f"1 more than a multiple of {config.temporal_stride}"
        raise InputError("`frames` can't be decoded again", found=options.frames, expected=expected)


DEFAULT_OPTIONS = TokenizerOptions()
