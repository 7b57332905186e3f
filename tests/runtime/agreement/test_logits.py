"""How logits agree, on small cases whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_runtime import InputError
from magvit_runtime.agreement.logits import LogitAccumulator, LogitAgreement

# Each row has mean 0 and standard deviation 2.
REFERENCE = np.array([[2.0, -2.0, 2.0, -2.0], [-2.0, 2.0, -2.0, 2.0]])


def agreement(
    logits: NDArray[np.floating], reference: NDArray[np.floating] = REFERENCE
) -> LogitAgreement:
    accumulator = LogitAccumulator()
    accumulator.add(logits, reference)
    return accumulator.result()


def test_errors_are_in_standard_deviations_of_each_choice() -> None:
    found = agreement(REFERENCE + np.array([[0.2, -0.2, 0.2, -0.6], [0.0, 0.0, 0.0, 0.0]]))
    assert found.rms == pytest.approx(np.sqrt((3 * 0.1**2 + 0.3**2) / 4 / 2))
    assert found.max == pytest.approx(0.3)
    assert (found.choices, found.other_best) == (2, 0)


def test_choices_of_few_and_many_values_weigh_alike() -> None:
    accumulator = LogitAccumulator()
    accumulator.add(REFERENCE[:1] + 0.2, REFERENCE[:1])
    many = np.tile(REFERENCE[:1], (1, 100))
    accumulator.add(many, many)
    assert accumulator.result().rms == pytest.approx(0.1 / np.sqrt(2))


def test_the_divergence_is_kullbacks_and_leiblers() -> None:
    theirs, ours = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])
    found = agreement(np.log(ours)[None] + 3.0, np.log(theirs)[None])
    assert found.divergence == pytest.approx(float((theirs * np.log(theirs / ours)).sum()))


def test_another_best_value_is_allowed_only_where_two_are_close() -> None:
    """Of 10,000 choices with errors of 0.1 σ, one has another best value."""
    reference = np.tile(REFERENCE, (5000, 1)) + np.arange(4) * 1e-3
    error = np.tile([0.2, -0.2, 0.2, -0.2], (10000, 1))
    for gap, outside in ((2.0, 0), (3.0, 1)):
        theirs, ours = reference.copy(), reference + error
        theirs[0] = [gap, 0.0, -3.0, -3.0]
        ours[0] = theirs[0] + [0.0, gap + 0.1, 0.0, 0.0]
        found = agreement(ours, theirs)
        spread = theirs[0].std()
        assert found.other_best == 1
        assert found.outside_margin == int(gap / spread > 10 * found.rms) == outside


def test_each_precision_has_its_limit() -> None:
    shifts = {"fp32": 4e-5, "fp16": 1e-2, "int8": 0.1}
    for precision, rms in shifts.items():
        error = np.array([[1.0, -1.0, 1.0, -1.0]] * 2) * 2 * rms
        assert agreement(REFERENCE + error).passes(precision)  # type: ignore[arg-type]
        assert not agreement(REFERENCE + 3 * error).passes(precision)  # type: ignore[arg-type]


def test_what_is_not_a_number_agrees_with_nothing() -> None:
    broken = REFERENCE.copy()
    broken[0, 0] = np.nan
    assert not agreement(broken).passes("int8")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(REFERENCE[:1], REFERENCE), (REFERENCE[:0], REFERENCE[:0]), (REFERENCE, np.ones((2, 4)))],
)
def test_what_cannot_be_compared_is_refused(
    ours: NDArray[np.floating], theirs: NDArray[np.floating]
) -> None:
    with pytest.raises(InputError):
        agreement(ours, theirs)


def test_nothing_is_no_agreement() -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        LogitAccumulator().result()
