"""Requests of one batch of Triton's in one call, so that none is harmed by another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from magvit_runtime.errors import InputError, MagvitError
from magvit_runtime.types import Array

# What a model gives for a batch of items: outputs by name, the batch first.
Run = Callable[[Array], Mapping[str, Array]]
Answer = Mapping[str, Array] | MagvitError


def answers(run: Run, requests: Sequence[Array]) -> list[Answer]:
    """What a model gives for each of several requests.

    Requests of one shape run in one call. Where such a call is refused, each of its requests runs
    alone, so that only the one that is wrong gets the error.

    Args:
        run: The model.
        requests: The items of each request, [N, ...].

    Returns:
        For each request its outputs, or the error that it is to be answered with.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, items in enumerate(requests):
        alike.setdefault((items.dtype, items.shape[1:]), []).append(place)
    found: dict[int, Answer] = {}
    for places in alike.values():
        together = _together(run, [requests[place] for place in places])
        found.update(zip(places, together, strict=True))
    return [found[place] for place in range(len(requests))]


def _together(run: Run, requests: Sequence[Array]) -> list[Answer]:
    try:
        outputs = run(requests[0] if len(requests) == 1 else np.concatenate(requests))
    except MagvitError as error:
        if isinstance(error, InputError) and len(requests) > 1:
            return [answer for one in requests for answer in _together(run, [one])]
        return [error] * len(requests)
    ends = np.cumsum([len(items) for items in requests])[:-1]
    parts = {name: np.split(values, ends) for name, values in outputs.items()}
    return [{name: part[i] for name, part in parts.items()} for i in range(len(requests))]
