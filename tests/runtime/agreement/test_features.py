"""How features agree: errors in units of the reference's rms, and cosines."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_runtime.agreement.features import FeatureAccumulator, FeatureAgreement, least_cosine
from magvit_runtime.agreement.limits import FEATURE_RMS_LIMITS
from magvit_runtime.errors import InputError

Floats = NDArray[np.float64]


def reference() -> Floats:
    return 3 * np.random.default_rng(0).standard_normal((40, 6, 8))


def compared(ours: Floats, theirs: Floats) -> FeatureAgreement:
    accumulator = FeatureAccumulator()
    accumulator.add("features", ours, theirs, [str(i) for i in range(len(theirs))])
    return accumulator.result()


def test_equal_features_agree() -> None:
    found = compared(reference(), reference())
    assert (found.rms, found.max, found.values) == (0, 0, 40 * 6 * 8)
    assert found.least_cosine == pytest.approx(1)
    assert found.passes("fp32")


def test_errors_are_in_units_of_the_references_rms() -> None:
    theirs = np.full((2, 50), 4.0)
    ours = theirs.copy()
    ours[0, 0] += 1
    found = compared(ours, theirs)
    assert found.rms == pytest.approx(np.sqrt(1 / 100) / 4)
    assert found.max == pytest.approx(1 / 4)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize(("factor", "passes"), [(0.9, True), (1.1, False)])
def test_the_limit_of_each_precision(precision: str, factor: float, passes: bool) -> None:
    theirs = reference()
    noise = np.random.default_rng(1).standard_normal(theirs.shape)
    noise *= np.sqrt(np.mean(theirs**2) / np.mean(noise**2))
    error = factor * FEATURE_RMS_LIMITS[precision] * noise
    assert compared(theirs + error, theirs).passes(precision) is passes


def test_one_wrong_item_among_many_is_not_hidden() -> None:
    theirs = np.ones((100_000, 4))
    ours = theirs.copy()
    ours[7] = [1, 1, 1, 0.98]
    found = compared(ours, theirs)
    assert found.rms < FEATURE_RMS_LIMITS["fp32"]
    assert found.least_cosine < least_cosine("fp32")
    assert not found.passes("fp32")
    assert min(found.item_cosines, key=found.item_cosines.__getitem__) == "7"


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_disagrees(wrong: float) -> None:
    ours = reference()
    ours[0, 0, 0] = wrong
    found = compared(ours, reference())
    assert not found.passes("bf16")
    assert found.rms == np.inf


def test_zeros_agree_with_zeros_alone() -> None:
    zeros = np.zeros((1, 4))
    assert compared(zeros, zeros).passes("fp32")
    assert not compared(zeros + 1e-30, zeros).passes("bf16")


def test_the_worse_of_two_outputs_counts() -> None:
    accumulator = FeatureAccumulator()
    theirs = reference()
    accumulator.add("features", theirs, theirs, ["a"] * 40)
    accumulator.add("pooled", theirs[:, 0] * 1.1, theirs[:, 0], ["a"] * 40)
    assert accumulator.result().rms == pytest.approx(0.1)


def test_other_shapes_and_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="features can't be compared"):
        compared(reference(), reference()[:, :5])
    with pytest.raises(InputError, match="nothing to compare"):
        FeatureAccumulator().result()
