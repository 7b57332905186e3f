"""Requests that meet in a batch: run together, and refused alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from magvit_runtime import BackendError, InputError
from magvit_runtime.serving.triton.batching import answers

Array = np.ndarray[Any, Any]


class Doubles:
    """Gives each item twice its value, refuses negative ones, and keeps the shapes of its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, items: Array) -> dict[str, Array]:
        self.calls.append(items.shape)
        if items.min() < 0:
            raise InputError("items are negative", found=items.min())
        return {"doubled": 2 * items, "first": items[:, 0]}


def test_requests_of_one_shape_run_in_one_call_and_get_their_own_parts() -> None:
    run = Doubles()
    requests = [np.arange(n * k).reshape(n, k) for n, k in [(1, 3), (2, 4), (3, 3), (1, 4)]]
    found = answers(run, requests)
    assert run.calls == [(4, 3), (3, 4)]
    for request, outputs in zip(requests, found, strict=True):
        assert isinstance(outputs, dict)
        np.testing.assert_array_equal(outputs["doubled"], 2 * request)
        np.testing.assert_array_equal(outputs["first"], request[:, 0])


def test_requests_of_other_types_run_apart() -> None:
    run = Doubles()
    found = answers(run, [np.ones((1, 2), np.int32), np.ones((1, 2), np.float32)])
    assert [one["doubled"].dtype.name for one in found if isinstance(one, dict)] == [
        "int32",
        "float32",
    ]


def test_a_refused_request_leaves_the_others_their_answers() -> None:
    good = np.ones((2, 3), np.int32)
    found = answers(Doubles(), [good, -good, good])
    assert isinstance(found[1], InputError)
    assert str(found[1]) == "items are negative: found -1"
    for place in (0, 2):
        outputs = found[place]
        assert isinstance(outputs, dict)
        np.testing.assert_array_equal(outputs["doubled"], 2 * good)


def test_a_backend_that_fails_is_not_tried_again() -> None:
    """Each request would fail alone too, and take its time."""
    calls = []

    def fails(items: Array) -> dict[str, Array]:
        calls.append(items.shape)
        raise BackendError("the GPU is gone")

    found = answers(fails, [np.ones((1, 2)), np.ones((1, 2))])
    assert [str(one) for one in found] == ["the GPU is gone"] * 2
    assert calls == [(2, 2)]


def test_what_is_no_error_of_ours_is_left_to_triton() -> None:
    def fails(_: Array) -> dict[str, Array]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answers(fails, [np.ones((1, 2))])
