"""How far latents are from a reference, and what that does to tokens.

A token's bit is the sign of a latent, so an error matters only where |z| is of its size. All
definitions, over all the values compared, in float64:

- z, z_ref: latents and the reference's; σ_z: standard deviation of z_ref.
- e = (z − z_ref) / σ_z. rms = √mean(e²), max = max|e|.
- A bit is z > 0 (zero, −0 and NaN give 0). It is flipped where z's and z_ref's differ; the bit flip
  rate is flipped bits / bits. A token, one bit a channel at one position, is changed where any of
  its bits is flipped; the token change rate is changed tokens / tokens.
- The margin of a flipped bit is |z_ref| / (σ_z·rms): how many typical errors its latent was from 0.
- The allowed-flip rule: rms is within the precision's limit, and no flipped bit has a margin
  above 10. Flips below are counted, not forbidden.
- An id is wrong if it isn't Σ bit_i·2^i of the latents of its own run, channel 0 lowest.

The limits were found by simulating each precision's rounding (docs/parity.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.agreement.intervals import Intervals, bootstrap
from magvit_runtime.agreement.limits import MARGIN, RMS_LIMITS
from magvit_runtime.bundle.manifest import Precision, SignMetrics
from magvit_runtime.errors import InputError
from magvit_runtime.quantizers.lfq import bits_to_ids


@dataclass(frozen=True, eq=False)
class ErrorTable:
    """Where errors are: by channel, or by position.

    Attributes:
        rms: √mean(e²) of each entry, in σ_z; float64, [bits] or [t, h, w] ([h, w] for images).
        flip_rate: Share of each entry's bits that flipped; likewise.
    """

    rms: NDArray[np.float64]
    flip_rate: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SignAgreement:
    """How latents agree with a reference; the module's docstring defines the terms.

    Attributes:
        rms: Root mean square of e, in σ_z.
        max: Largest |e|, in σ_z.
        spread: σ_z, in the latents' own unit.
        bits: Bits compared.
        flipped_bits: Bits that differ.
        outside_margin: Flipped bits with |z_ref| > 10·rms(e): none is allowed.
        tokens: Tokens compared.
        changed_tokens: Tokens with a flipped bit.
        wrong_ids: Ids that don't match the bits of their own latents; 0 where none were given.
        flips_by_margin: Flipped bits by margin: 0 to 1, 1 to 2, ... 9 to 10, and above 10.
        clip_rms: The rms error of each clip by its name, in σ_z.
        channels: Errors by channel.
        positions: Errors by position in the token grid, for each shape of the grid.
        intervals: Confidence intervals; None for fewer than two clips, or if rms isn't finite.
    """

    rms: float
    max: float
    spread: float
    bits: int
    flipped_bits: int
    outside_margin: int
    tokens: int
    changed_tokens: int
    wrong_ids: int
    flips_by_margin: tuple[int, ...]
    clip_rms: dict[str, float]
    channels: ErrorTable
    positions: dict[tuple[int, ...], ErrorTable]
    intervals: Intervals | None

    @property
    def bit_flip_rate(self) -> float:
        """Flipped bits / bits."""
        return self.flipped_bits / self.bits

    @property
    def token_change_rate(self) -> float:
        """Changed tokens / tokens."""
        return self.changed_tokens / self.tokens

    @property
    def worst_clip_rms(self) -> float:
        """The largest rms error of one clip, in σ_z."""
        return float(np.max(list(self.clip_rms.values())))

    @property
    def max_latent_error(self) -> float:
        """Largest |z − z_ref|, in the latents' own unit."""
        return self.max * self.spread

    def passes(self, precision: Precision) -> bool:
        """Whether the allowed-flip rule holds for this precision, and every id is right."""
        within = self.rms <= RMS_LIMITS[precision]
        return within and self.outside_margin == 0 and self.wrong_ids == 0

    @property
    def metrics(self) -> SignMetrics:
        """The figures that a stamp keeps."""
        names = SignMetrics.__struct_fields__
        return SignMetrics(**{name: getattr(self, name) for name in names})

    @property
    def facts(self) -> dict[str, Any]:
        """All measured figures, ready for JSON."""
        return msgspec.structs.asdict(self.metrics) | {
            "max_latent_error": self.max_latent_error,
            "bit_flip_rate": self.bit_flip_rate,
            "token_change_rate": self.token_change_rate,
            "worst_clip_rms": self.worst_clip_rms,
            "clip_rms": self.clip_rms,
            "flips_by_margin": self.flips_by_margin,
            "intervals": None if self.intervals is None else asdict(self.intervals),
            "channel_rms": self.channels.rms.tolist(),
            "channel_flip_rate": self.channels.flip_rate.tolist(),
        }

    @property
    def summary(self) -> str:
        """One line for people."""
        text = (
            f"rms error {self.rms:.1e} σ, max|dz| {self.max_latent_error:.1e}, "
            f"{self.changed_tokens} of {self.tokens} tokens changed, "
            f"{self.outside_margin} bits outside the margin"
        )
        return text + (f", {self.wrong_ids} wrong ids" if self.wrong_ids else "")


@dataclass
class _Sums:
    """Sums over a part of the values: a clip, the channels, or the positions of a grid."""

    squares: NDArray[np.float64]
    flips: NDArray[np.int64]
    bits: int = 0
    changed: int = 0
    tokens: int = 0


@dataclass
class SignAccumulator:
    """Compares latents with a reference's, batch by batch.

    It holds sums, and the |z_ref| of each flipped bit (8 bytes), because a bit's margin is known
    only at the end.
    """

    _largest: float = 0.0
    _values: int = 0
    _mean: float = 0.0
    _deviations: float = 0.0
    _wrong_ids: int = 0
    _flipped: list[NDArray[np.float64]] = field(default_factory=list)
    _clips: dict[str, _Sums] = field(default_factory=dict)
    _channels: _Sums | None = None
    _positions: dict[tuple[int, ...], _Sums] = field(default_factory=dict)

    def add(
        self,
        latents: NDArray[np.floating],
        reference: NDArray[np.floating],
        ids: NDArray[np.integer] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            latents: Float [N, bits, ...], without unit. A value that isn't finite fails.
            reference: The same, from the reference.
            ids: Ids [N, ...] of the same run as `latents`; None leaves them unchecked.
            names: Name of each clip; results of the same name count as one clip in the confidence
                intervals. None counts every clip by itself.

        Raises:
            InputError: The shapes differ, or there are no values.
        """
        if latents.shape != reference.shape or latents.ndim < 3 or latents.size == 0:
            raise InputError(
                "latents can't be compared with the reference's",
                found=list(latents.shape),
                expected=f"{list(reference.shape)}, of [N, bits, ...]",
            )
        expected = reference.astype(np.float64)
        with np.errstate(invalid="ignore"):
            error = latents.astype(np.float64) - expected
            squares = error**2
        flipped = (latents > 0) != (expected > 0)
        self._largest = float(np.maximum(self._largest, np.abs(error).max()))
        self._add_to_spread(expected)
        self._flipped.append(np.abs(expected[flipped]))
        if ids is not None:
            bits = np.moveaxis(latents > 0, 1, -1)
            self._wrong_ids += int((bits_to_ids(bits) != ids).sum())
        self._add_to_clips(squares, flipped, names)
        self._add_to_tables(squares, flipped)

    def result(self, seed: int = 0) -> SignAgreement:
        """The agreement of all batches so far.

        Args:
            seed: Seeds the bootstrap.

        Raises:
            InputError: Nothing was added, or all of the reference's latents are equal.
        """
        if self._channels is None:
            raise InputError("there is nothing to compare", found="0 clips", expected="1 or more")
        spread = float(np.sqrt(self._deviations / self._values))
        if not spread > 0:
            raise InputError("the reference's latents have no spread", found=spread, expected="> 0")
        clips = list(self._clips.values())
        squares = np.array([clip.squares for clip in clips])
        bits = np.array([clip.bits for clip in clips])
        rms = float(np.sqrt(squares.sum() / bits.sum()) / spread)
        flips_by_margin = _flips_by_margin(np.concatenate(self._flipped) / spread, rms)
        return SignAgreement(
            rms=rms,
            max=self._largest / spread,
            spread=spread,
            bits=int(bits.sum()),
            flipped_bits=sum(flips_by_margin),
            outside_margin=flips_by_margin[-1],
            tokens=sum(clip.tokens for clip in clips),
            changed_tokens=sum(clip.changed for clip in clips),
            wrong_ids=self._wrong_ids,
            flips_by_margin=flips_by_margin,
            clip_rms=dict(
                zip(self._clips, (np.sqrt(squares / bits) / spread).tolist(), strict=True)
            ),
            channels=_table(self._channels, spread),
            positions={grid: _table(sums, spread) for grid, sums in self._positions.items()},
            intervals=bootstrap(_rows(clips), spread, seed)
            if len(clips) > 1 and np.isfinite(rms)
            else None,
        )

    def _add_to_spread(self, values: NDArray[np.float64]) -> None:
        # Merging means and squared deviations keeps digits that a sum of squares would lose.
        # Source: Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm", 1979.
        total = self._values + values.size
        difference = float(values.mean()) - self._mean
        self._deviations += float(values.var()) * values.size
        self._deviations += difference**2 * self._values * values.size / total
        self._mean += difference * values.size / total
        self._values = total

    def _add_to_clips(
        self,
        squares: NDArray[np.float64],
        flipped: NDArray[np.bool_],
        names: Sequence[str] | None,
    ) -> None:
        changed: NDArray[np.bool_] = np.logical_or.reduce(flipped, axis=1)
        for i in range(len(squares)):
            name = f"clip {len(self._clips)}" if names is None else names[i]
            clip = self._clips.setdefault(name, _Sums(np.zeros(()), np.zeros((), np.int64)))
            clip.squares = clip.squares + squares[i].sum()
            clip.flips = clip.flips + flipped[i].sum()
            clip.bits += flipped[i].size
            clip.changed += int(changed[i].sum())
            clip.tokens += changed[i].size

    def _add_to_tables(self, squares: NDArray[np.float64], flipped: NDArray[np.bool_]) -> None:
        count, channels, *grid = squares.shape
        if self._channels is None:
            self._channels = _Sums(np.zeros(channels), np.zeros(channels, np.int64))
        rest = (0, *range(2, squares.ndim))
        self._channels.squares += squares.sum(axis=rest)
        self._channels.flips += flipped.sum(axis=rest)
        self._channels.bits += squares.size // channels
        empty = _Sums(np.zeros(grid), np.zeros(grid, np.int64))
        positions = self._positions.setdefault(tuple(grid), empty)
        positions.squares += squares.sum(axis=(0, 1))
        positions.flips += flipped.sum(axis=(0, 1))
        positions.bits += count * channels


def compare_latents(
    latents: NDArray[np.floating],
    reference: NDArray[np.floating],
    ids: NDArray[np.integer] | None = None,
) -> SignAgreement:
    """Compares latents with a reference at once; see `SignAccumulator.add`.

    Raises:
        InputError: The shapes differ, there are no values, or the reference's are all equal.
    """
    accumulator = SignAccumulator()
    accumulator.add(latents, reference, ids)
    return accumulator.result()


def _flips_by_margin(distances: NDArray[np.float64], rms: float) -> tuple[int, ...]:
    """Flips by |z_ref| / rms, both in σ_z; if rms isn't finite, all count as above the margin."""
    last = int(MARGIN)
    if not np.isfinite(rms):
        return (*[0] * last, len(distances))
    margins = distances / rms if rms > 0 else distances
    inside = margins[margins <= MARGIN]
    # A margin of exactly 10 is allowed: it belongs to the bin below.
    bins = np.minimum(inside.astype(np.int64), last - 1)
    counts = np.bincount(bins, minlength=last)
    return (*(int(count) for count in counts), len(margins) - len(inside))


def _table(sums: _Sums, spread: float) -> ErrorTable:
    return ErrorTable(np.sqrt(sums.squares / sums.bits) / spread, sums.flips / sums.bits)


def _rows(clips: Sequence[_Sums]) -> NDArray[np.float64]:
    rows = [[clip.squares, clip.flips, clip.bits, clip.changed, clip.tokens] for clip in clips]
    return np.array(rows, np.float64)
