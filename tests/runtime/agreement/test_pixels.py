"""How pixels agree: levels, changed values, and the limits of each precision."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_runtime.agreement.pixels import PixelAccumulator, PixelAgreement
from magvit_runtime.bundle.manifest import PixelMetrics
from magvit_runtime.errors import InputError

SHAPE = (2, 3, 10, 10, 3)


def reference() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(20, 230, SHAPE, dtype=np.uint8)


def compared(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> PixelAgreement:
    accumulator = PixelAccumulator()
    accumulator.add(ours, theirs, ("a", "b"))
    return accumulator.result()


def test_errors_are_counted_in_levels() -> None:
    ours = reference()
    ours[0, 0, 0, 0] += np.array([3, 0, 4], np.uint8)
    found = compared(ours, reference())
    assert (found.max, found.values, found.changed_values) == (4, ours.size, 2)
    assert found.rms == pytest.approx(np.sqrt(25 / ours.size))
    assert found.clip_rms == {"a": pytest.approx(np.sqrt(50 / ours.size)), "b": 0}
    assert found.metrics == PixelMetrics(found.rms, 4, ours.size, 2)
    assert found.facts["change_rate"] == 2 / ours.size


def test_bytes_do_not_wrap() -> None:
    black, white = np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8)
    assert compared(black, white).max == compared(white, black).max == 255


@pytest.mark.parametrize(("share", "passes"), [(0.0, True), (0.009, True), (0.011, False)])
def test_float32_may_round_one_value_in_a_hundred_to_its_neighbour(
    share: float, passes: bool
) -> None:
    theirs = np.full((1, 100, 100), 7, np.uint8)
    ours = theirs.copy()
    ours.ravel()[: int(share * ours.size)] += 1
    accumulator = PixelAccumulator()
    accumulator.add(ours, theirs, ("a",))
    assert accumulator.result().passes("fp32") == passes


def test_one_value_two_levels_off_is_no_rounding() -> None:
    ours = reference()
    ours[1, 2, 3, 4, 0] += 2
    found = compared(ours, reference())
    assert not found.passes("fp32")
    assert found.passes("fp16")


def test_clips_of_one_name_are_taken_together() -> None:
    accumulator = PixelAccumulator()
    for error in (0, 2):
        accumulator.add(reference() + np.uint8(error), reference(), ("a", "b"))
    assert accumulator.result().clip_rms == {"a": np.sqrt(2), "b": np.sqrt(2)}


@pytest.mark.parametrize(
    "other",
    [np.zeros((2, 3, 10, 10), np.uint8), np.zeros(SHAPE, np.int16)],
    ids=["another shape", "another type"],
)
def test_what_can_not_be_compared(other: NDArray[np.integer]) -> None:
    with pytest.raises(InputError, match="can't be compared"):
        compared(other, reference())  # type: ignore[arg-type]


def test_nothing_to_compare() -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        PixelAccumulator().result()
