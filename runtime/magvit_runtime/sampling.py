"""Chooses a token by its logits: guidance, temperature, top-k and top-p, then a random number.

The order is that of Open-MAGVIT2's `sample.py`. All is computed in float64, and no randomness is in
here: a token is the smallest whose cumulative probability exceeds a given uniform number. So equal
logits and equal numbers give equal tokens, whatever made the logits.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import InputError

# Colder than this is greedy choice; the reference has the same floor.
COLDEST = 1e-5

Guidance = Annotated[float, msgspec.Meta(ge=0)]
Temperature = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the first and of the second part of each token.

    Attributes:
        guidance: Scale s of classifier-free guidance: logits become n + (c - n)·s, where c are the
            class's and n the null class's. Up to 1 it is off.
        temperature: What logits are divided by; below 1e-5 it is 1e-5, which is greedy choice.
        top_k: Only values whose logit is among the k largest stay, and all that equal the k-th;
            0 keeps all.
        top_p: Only the most probable values that have this share of the probability together
            stay, one at least; 1 keeps all.
    """

    guidance: tuple[Guidance, Guidance] = (0.0, 0.0)
    temperature: tuple[Temperature, Temperature] = (1.0, 1.0)
    top_k: tuple[Count, Count] = (0, 0)
    top_p: tuple[Share, Share] = (1.0, 1.0)

    @property
    def is_guided(self) -> bool:
        """Whether the null class's logits are needed."""
        return max(self.guidance) > 1


def checked(
    defaults: Sampling,
    guidance: tuple[float, float] | None = None,
    temperature: tuple[float, float] | None = None,
    top_k: tuple[int, int] | None = None,
    top_p: tuple[float, float] | None = None,
) -> Sampling:
    """Settings of which some differ from the defaults.

    Raises:
        InputError: A setting is no pair of numbers, or one is out of its range.
    """
    given = {"guidance": guidance, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    values = {name: value for name, value in given.items() if value is not None}
    ranges = {
        "guidance": "two numbers, 0 or more",
        "temperature": "two numbers, 0 or more",
        "top_k": "two whole numbers, 0 or more",
        "top_p": "two numbers over 0, up to 1",
    }
    for name, value in values.items():
        try:
            numbers = [*value]
            pair = msgspec.convert({name: numbers}, Sampling)
            is_sound = all(math.isfinite(number) for number in getattr(pair, name))
        except (TypeError, msgspec.ValidationError):
            is_sound = False
        if not is_sound:
            raise InputError(
                f"`{name}` isn't what sampling takes",
                found=repr(value),
                expected=f"{ranges[name]}: one of the first and one of the second part of a token",
            )
        values[name] = getattr(pair, name)
    return msgspec.structs.replace(defaults, **values)


def choose(
    logits: NDArray[np.float32],
    null: NDArray[np.float32] | None,
    uniforms: NDArray[np.float64],
    settings: Sampling,
    part: int,
) -> NDArray[np.int32]:
    """One value for each row of logits.

    Args:
        logits: [N, V], finite.
        null: Those of the null class, [N, V]; None without guidance.
        uniforms: [N] in 0 .. 1, 1 excluded.
        settings: The settings.
        part: 0 for the first part of a token, 1 for the second.

    Returns:
        int32 [N] in 0 .. V - 1.
    """
    scores = logits.astype(np.float64)
    scale = settings.guidance[part]
    if null is not None and scale > 1:
        unguided = null.astype(np.float64)
        scores = unguided + (scores - unguided) * scale
    scores /= max(settings.temperature[part], COLDEST)
    probabilities = _softmax(_without_tail(_largest(scores, settings.top_k[part]), settings, part))
    return _inverse(probabilities, uniforms)


def _largest(scores: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Scores below the `count` largest of their row become -inf; those equal to the last stay."""
    size = scores.shape[1]
    if not 0 < count < size:
        return scores
    least = np.partition(scores, size - count, axis=1)[:, size - count, None]
    return np.where(scores < least, -np.inf, scores)


def _without_tail(
    scores: NDArray[np.float64], settings: Sampling, part: int
) -> NDArray[np.float64]:
    """Scores become -inf once the more probable ones have more than the share together."""
    share = settings.top_p[part]
    if share >= 1:
        return scores
    # Stable: of equal ones the smaller value comes first.
    order = np.argsort(-scores, axis=1, kind="stable")
    cumulative = np.cumsum(_softmax(np.take_along_axis(scores, order, 1)), axis=1)
    # A value goes if those before it have the share; so the first always stays.
    goes = np.zeros_like(cumulative, dtype=bool)
    goes[:, 1:] = cumulative[:, :-1] > share
    kept = scores.copy()
    rows, columns = np.nonzero(goes)
    kept[rows, order[rows, columns]] = -np.inf
    return kept


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def _inverse(
    probabilities: NDArray[np.float64], uniforms: NDArray[np.float64]
) -> NDArray[np.int32]:
    """The smallest value whose cumulative probability exceeds the row's number."""
    exceeds = np.cumsum(probabilities, axis=1) > uniforms[:, None]
    # The sum of all may round to just under 1: then it is the last value that can be at all.
    last = probabilities.shape[1] - 1 - (probabilities[:, ::-1] > 0).argmax(axis=1)
    found = np.where(exceeds.any(axis=1), exceeds.argmax(axis=1), last)
    chosen: NDArray[np.int32] = found.astype(np.int32)
    return chosen
