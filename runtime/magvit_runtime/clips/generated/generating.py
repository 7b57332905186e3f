"""Generates labelled trajectories in two or three dimensions."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.generated.curves import KINDS
from magvit_runtime.clips.generated.draws import Draws, cosine, sine
from magvit_runtime.errors import InputError

COMMON_KINDS = ("linear", "circular", "helical", "parabolic")
MOST = 1_000_000  # Of samples, and of trajectories a kind: more is a slip of the hand.
# Coordinates are whole multiples of this.
DECIMALS = 6

_UPRIGHT = "parabolic"  # Gravity says which way it stands.


@dataclass(frozen=True)
class GenerationOptions:
    """What is generated.

    Attributes:
        kinds: Names of `KINDS`; each is a class.
        count: Trajectories of each kind.
        samples: Points of each, evenly spaced in time.
        noise: Standard deviation of what is added to each coordinate, in their unit; curves are
            1 to 2 units long and wide.
        dimensions: 2 (x, y) or 3 (x, y, z; z points up).
        seed: Chooses all random numbers, from 0 on.

    Raises:
        InputError: One is out of range.
    """

    kinds: tuple[str, ...] = COMMON_KINDS
    count: int = 100
    samples: int = 32
    noise: float = 0.01
    dimensions: Literal[2, 3] = 2
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            found = repr(unknown[0]) if unknown else "none"
            raise InputError("a kind is unknown", found=found, expected=", ".join(KINDS))
        if len(set(self.kinds)) < len(self.kinds):
            raise InputError("a kind is named twice", found=", ".join(self.kinds))
        for name, least in (("count", 1), ("samples", 2)):
            value = getattr(self, name)
            if not least <= value <= MOST:
                expected = f"{least} to {MOST}"
                raise InputError(f"`{name}` is out of range", found=value, expected=expected)
        # Written so that NaN fails too.
        if not 0 <= self.noise <= 1:
            raise InputError("`noise` is out of range", found=self.noise, expected="0 to 1")
        if self.dimensions not in (2, 3):
            raise InputError("`dimensions` is out of range", found=self.dimensions, expected="2, 3")
        if self.seed < 0:
            raise InputError("`seed` is negative", found=self.seed, expected="≥ 0")


@dataclass(frozen=True, eq=False)
class GeneratedTrajectory:
    """One generated trajectory.

    Attributes:
        id: Its kind and number: "circular-00007".
        label: Its kind.
        positions: float64 [samples, dimensions], x, y and z; the unit is the user's, such as
            metres. Within ±1.5·√3 + 0.5 of 0 before noise is added.
        t: float64 [samples], the number of each sample, from 0.
    """

    id: str
    label: str
    positions: NDArray[np.float64]
    t: NDArray[np.float64]


def generate_trajectories(options: GenerationOptions) -> Iterator[GeneratedTrajectory]:
    """Generates all trajectories, one of each kind in turn.

    Each depends on its kind, its number and the options' seed, samples, noise and dimensions alone:
    more of them, or other kinds beside them, leave it as it is.
    """
    for number in range(options.count):
        for kind in options.kinds:
            yield generate_trajectory(kind, number, options)


def generate_trajectory(kind: str, number: int, options: GenerationOptions) -> GeneratedTrajectory:
    """Generates one trajectory of a kind; `options.count` doesn't limit its number."""
    draws = Draws(options.seed, zlib.crc32(kind.encode()), number)
    t = np.arange(options.samples, dtype=np.float64)
    way = t / (options.samples - 1)
    # The pace changes evenly, by a factor of up to 3 from start to end or back.
    way = way + draws.uniform(-0.5, 0.5) * (way * way - way)
    curve = KINDS[kind](draws, way) * draws.uniform(0.5, 1)
    turned = _in_space(kind, curve, draws) if options.dimensions == 3 else _flat(kind, curve, draws)
    positions = turned + draws.uniforms(-0.5, 0.5, (options.dimensions,))
    positions = positions + options.noise * draws.normals(positions.shape)
    unit = 10.0**DECIMALS
    rounded = np.rint(positions * unit) / unit + 0.0  # No negative zeros.
    return GeneratedTrajectory(f"{kind}-{number:05}", kind, rounded, t)


def _flat(kind: str, curve: NDArray[np.float64], draws: Draws) -> NDArray[np.float64]:
    """A curve's first two coordinates, turned by any angle; what stands upright is mirrored."""
    x, y = curve[:, 0], curve[:, 1]
    if kind == _UPRIGHT:
        return np.stack([x if draws.whole(0, 1) else -x, y], axis=1)
    angle = draws.uniforms(0, 1, (1,))
    cos, sin = cosine(angle), sine(angle)
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=1)


def _in_space(kind: str, curve: NDArray[np.float64], draws: Draws) -> NDArray[np.float64]:
    """A curve turned in any way; what stands upright, in any way around z."""
    x, y, z = curve.T
    if kind == _UPRIGHT:
        angle = draws.uniforms(0, 1, (1,))
        return np.stack([cosine(angle) * x, sine(angle) * x, -y], axis=1)
    rows = _rotation(draws)
    return np.stack([row[0] * x + row[1] * y + row[2] * z for row in rows], axis=1)


def _rotation(draws: Draws) -> NDArray[np.float64]:
    """A rotation of space, all equally likely (Shoemake, Uniform random rotations, 1992)."""
    share, *angles = draws.uniforms(0, 1, (3,))
    ends = np.sqrt([1 - share, share])
    (a, c), (b, d) = ends * sine(np.array(angles)), ends * cosine(np.array(angles))
    return np.array(
        [
            [1 - 2 * (c * c + d * d), 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), 1 - 2 * (b * b + d * d), 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), 1 - 2 * (b * b + c * c)],
        ]
    )
