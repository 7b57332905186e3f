"""The allowed-change rule of codebooks, on small cases whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_runtime import InputError
from magvit_runtime.agreement.margins import MarginAccumulator, MarginAgreement

# The mean is 5, the standard deviation 2.
MARGINS = np.array([[3.0, 7.0, 3.0, 7.0, 3.0, 7.0, 3.0, 7.0]])
IDS = np.arange(8, dtype=np.int32)[None]


def agreement(
    margins: NDArray[np.floating],
    ids: NDArray[np.integer] = IDS,
    reference: NDArray[np.floating] = MARGINS,
) -> MarginAgreement:
    accumulator = MarginAccumulator()
    accumulator.add(ids, margins, IDS, reference)
    return accumulator.result()


def changed(*places: int) -> NDArray[np.int32]:
    ids = IDS.copy()
    ids[0, list(places)] += 100
    return ids


def test_errors_are_in_standard_deviations_of_the_references_margins() -> None:
    found = agreement(MARGINS + np.array([0.2, -0.2, 0.2, -0.2, 0.2, -0.2, 0.2, -0.6]))
    assert found.rms == pytest.approx(np.sqrt((7 * 0.1**2 + 0.3**2) / 8))
    assert found.max == pytest.approx(0.3)
    assert (found.tokens, found.changed_tokens, found.outside_margin) == (8, 0, 0)


@pytest.mark.parametrize(("reference", "outside"), [(1.99, 0), (2.01, 1)])
def test_a_change_is_allowed_within_ten_typical_errors(reference: float, outside: int) -> None:
    """Each unchanged margin is off by 0.2, so what the reference decided by 2 may change."""
    margins = np.concatenate([MARGINS, [[reference] + [5.0] * 7]])
    ids = np.concatenate([IDS, changed(0)])
    accumulator = MarginAccumulator()
    accumulator.add(ids[:1], margins[:1] + 0.2, IDS, margins[:1])
    accumulator.add(ids[1:], margins[1:] + 0.2, IDS, margins[1:])
    found = accumulator.result()
    assert (found.tokens, found.changed_tokens, found.outside_margin) == (16, 1, outside)
    assert found.passes("fp16") is False  # 0.2 is far more than such a precision may be off.


def test_the_error_of_a_changed_token_is_no_error_of_its_margin() -> None:
    margins = MARGINS.copy()
    margins[0, 0] = 500
    assert agreement(margins, changed(0)).rms == 0
    assert agreement(margins).rms > 0


def test_small_errors_pass_and_large_ones_dont() -> None:
    assert agreement(MARGINS).passes("fp32")
    assert agreement(MARGINS + 2 * 2.4e-4).passes("fp32")
    assert not agreement(MARGINS + 2 * 2.6e-4).passes("fp32")
    assert agreement(MARGINS + 2 * 2.6e-4).passes("tf32")


def test_a_sure_decision_that_changes_fails() -> None:
    found = agreement(MARGINS, changed(1))
    assert found.outside_margin == 1
    assert not found.passes("bf16")


def test_where_all_tokens_change_nothing_agrees() -> None:
    found = agreement(MARGINS, changed(*range(8)))
    assert (found.changed_tokens, found.outside_margin) == (8, 8)
    assert not found.passes("bf16")


def test_margins_that_are_no_numbers_fail() -> None:
    margins = MARGINS.copy()
    margins[0, 3] = np.nan
    assert not agreement(margins).passes("bf16")
    assert agreement(margins, changed(1)).outside_margin == 1


def test_what_cant_be_compared() -> None:
    with pytest.raises(InputError, match="there is nothing to compare"):
        MarginAccumulator().result()
    with pytest.raises(InputError, match="the reference's margins have no spread"):
        agreement(MARGINS, reference=np.ones((1, 8)))
    with pytest.raises(InputError, match=r"found \[1, 4\], \[1, 8\], expected four arrays"):
        agreement(MARGINS[:, :4])
