"""How far outputs may be from the reference's, by precision."""

from __future__ import annotations

from dataclasses import dataclass

from magvit_runtime.types import Precision


@dataclass(frozen=True)
class PixelLimits:
    """How far pixels may be from the reference's, in levels: all together, and any one of them."""

    rms: float
    max: int


# Largest rms error, in standard deviations of the reference's values; found by simulating each
# precision's rounding (docs/parity.md).
# "int8" is of models that generate alone; of others nothing was measured, so nothing agrees.
RMS_LIMITS: dict[Precision, float] = {
    "fp32": 5e-5,
    "tf32": 4e-3,
    "fp16": 8e-3,
    "bf16": 6e-2,
    "int8": 0.0,
}
# fp32's follow from rounding: an error of float32 is far below a level, so a value changes only
# where it lies at the border between two levels; one in a hundred may. fp16's were set after its
# error on seeded decoders was seen, at some four times that. tf32's and bf16's were not measured:
# they follow from fp16's by the ratio of the roundings, 1/2 (conv inputs alone) and 8 (three bits
# fewer).
PIXEL_LIMITS: dict[Precision, PixelLimits] = {
    "fp32": PixelLimits(0.1, 1),
    "tf32": PixelLimits(0.5, 4),
    "fp16": PixelLimits(1.0, 8),
    "bf16": PixelLimits(8.0, 64),
    "int8": PixelLimits(0.0, 0),
}
# Likewise of a codebook's margins, in standard deviations of the reference's margins. A margin is a
# latent's product with the difference of two rows, and spreads less than the products themselves:
# of N independent normal scores the gap between the largest two has 1 / √(2 ln N) of their spread,
# so relative errors grow by √(4 ln N), which is 5 for 1,024 rows and 7 for 262,144.
MARGIN_RMS_LIMITS: dict[Precision, float] = {
    precision: 5 * limit for precision, limit in RMS_LIMITS.items()
}
# Likewise of features, relative to the rms of the reference's: latents are a projection of a
# tokenizer's features, so their limits hold. VideoMAE and CLIP stay far below (docs/features.md).
FEATURE_RMS_LIMITS = RMS_LIMITS
# Likewise of logits, in standard deviations of each choice's; set after they were seen on seeded
# transformers of the released sizes (docs/generation.md). Weights of 8 bits are what their name
# says; their limit finds graphs that are broken, not those that round.
LOGIT_LIMITS: dict[Precision, float] = {
    "fp32": 5e-5,
    "tf32": 1e-2,
    "fp16": 2e-2,
    "bf16": 1.6e-1,
    "int8": 2e-1,
}
# A decision whose distance is more typical errors than this may not change.
MARGIN = 10.0
