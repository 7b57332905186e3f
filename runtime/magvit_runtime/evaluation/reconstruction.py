"""Clips to tokens and back, and what the way costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.clips.batches import ClipBatch
from magvit_runtime.detokenizer import Detokenizer
from magvit_runtime.errors import InputError
from magvit_runtime.evaluation.code_use import CodeUse
from magvit_runtime.evaluation.estimates import mean_estimate
from magvit_runtime.evaluation.pixel_quality import psnr, ssim
from magvit_runtime.quantizers.vocabulary import vocabulary_size
from magvit_runtime.tokenizer import Tokenizer
from magvit_runtime.types import Estimate


class Measure(Protocol):
    """A figure of many pairs of clips that has no value for each of them, such as rFID."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    def add(self, original: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> None:
        """Takes pairs: uint8 RGB [N, T, H, W, 3] or [N, H, W, 3], both of one shape."""

    def value(self) -> Estimate:
        """The figure of all pairs so far."""


@dataclass(frozen=True)
class Reconstruction:
    """How well a bundle's tokenizer gives back what it encodes.

    Attributes:
        model: Name of the model.
        weights: What its weights are, in words.
        clips: Number of clips.
        tokens: Number of tokens.
        left_out_frames: Frames at the ends of clips that the decoder doesn't give back.
        psnr: In dB, the mean over clips.
        ssim: The mean over clips.
        codes_used: Share of the vocabulary.
        token_entropy: In bits.
        measures: Further figures by name.
    """

    model: str
    weights: str
    clips: int
    tokens: int
    left_out_frames: int
    psnr: Estimate
    ssim: Estimate
    codes_used: Estimate
    token_entropy: Estimate
    measures: dict[str, Estimate] = field(default_factory=dict)


def evaluate_reconstruction(
    tokenizer: Tokenizer,
    detokenizer: Detokenizer,
    batches: Iterable[ClipBatch],
    measures: Iterable[Measure] = (),
    look: Callable[[NDArray[np.uint8], NDArray[np.uint8]], None] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Reconstruction:
    """Encodes and decodes clips, and compares them with what they were.

    Args:
        tokenizer: The bundle's encoder.
        detokenizer: Its decoder.
        batches: Clips, one batch in memory at a time.
        measures: Further figures to take.
        look: Called with each batch and what came of it.
        advance: Called with the number of clips done.

    Raises:
        InputError: There are no clips, or they don't fit the model.
        BackendError: A backend failed.
    """
    measures = tuple(measures)
    use = CodeUse(vocabulary_size(tokenizer.bundle.tokens.quantizer))
    noise: list[float] = []
    similarity: list[float] = []
    left_out = 0
    for batch in batches:
        ids = tokenizer(batch.frames)
        decoded = detokenizer(ids)
        original = _as_decoded(batch.frames, decoded)
        if original.ndim == 5:
            left_out += (batch.frames.shape[1] - original.shape[1]) * len(original)
        use.add(ids)
        noise.extend(psnr(original, decoded))
        similarity.extend(ssim(original, decoded))
        for measure in measures:
            measure.add(original, decoded)
        if look is not None:
            look(original, decoded)
        advance(len(ids))
    if not noise:
        raise InputError("there is nothing to evaluate", found="no clips")
    return Reconstruction(
        model=tokenizer.bundle.manifest.model,
        weights=weights_label(tokenizer.bundle),
        clips=len(noise),
        tokens=use.tokens,
        left_out_frames=left_out,
        psnr=mean_estimate(noise),
        ssim=mean_estimate(similarity),
        codes_used=use.used(),
        token_entropy=use.entropy(),
        measures={measure.name: measure.value() for measure in measures},
    )


def _as_decoded(frames: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The part of clips that the decoder gives back: of T frames the first 4 (t - 1) + 1."""
    if decoded.ndim == 5:
        frames = frames[:, : decoded.shape[1]]
    if frames.shape != decoded.shape:
        raise InputError(
            "these clips don't come back in their own size",
            found=f"{list(frames.shape)}, decoded to {list(decoded.shape)}",
            expected="a height and width that are multiples of the model's stride",
        )
    return frames
