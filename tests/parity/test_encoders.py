"""Every model of the suite, in every way that runs here, against the reference implementation.

float32 may differ by the tolerances below, so a bit may differ where its latent is that near 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parity.encoders import Encoders
from parity.suite import MODELS, WAYS, Model, Variant, Way, why_not_here

from magvit_runtime.agreement.signs import compare_latents

VARIANTS: tuple[Variant, ...] = ("raw", "ema")
LATENT_TOLERANCE = 3e-4
FLOAT64_TOLERANCE = 1e-6  # Rounding of the stored float32, absolute and relative.


def combinations() -> Iterator[Any]:
    for way in WAYS:
        reason = why_not_here(way)
        skip = [pytest.mark.skip(reason=f"{way.name}: {reason}")] if reason else []
        # At the released size float64 takes minutes, and proves no more than the smaller sizes.
        models = [model for model in MODELS if not model.marks or way.rule != "fp64"]
        for model in models:
            for variant in VARIANTS:
                for case in model.cases(variant):
                    name = f"{model.name}-{case}-{variant}-{way.name}".replace(" ", "-")
                    marks = [*model.marks, *skip]
                    yield pytest.param(model, variant, case, way, id=name, marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "variant", "case", "way"), combinations())
def test_latents_and_ids(
    encoders: Encoders, model: Model, variant: Variant, case: str, way: Way
) -> None:
    latents, ids = encoders.encode(model, variant, way, model.frames(case))
    expected, expected_ids = model.value(case, f"z_{variant}"), model.value(case, f"ids_{variant}")
    if way.rule == "fp64":
        check_float64(latents, expected)
        np.testing.assert_array_equal(ids, expected_ids)
        return
    agreement = compare_latents(latents, expected, ids)
    assert agreement.passes(way.rule), agreement
    if way.rule == "fp32":
        check_float32(latents, ids, expected, expected_ids)


def check_float64(latents: NDArray[Any], expected: NDArray[Any]) -> None:
    """Compares to the last stored digit. This shows errors that float32 hides: epsilon, padding."""
    tolerances = {"rtol": FLOAT64_TOLERANCE, "atol": FLOAT64_TOLERANCE}
    np.testing.assert_allclose(latents, expected, **tolerances)


def check_float32(
    latents: NDArray[Any],
    ids: NDArray[Any],
    expected: NDArray[Any],
    expected_ids: NDArray[Any],
) -> None:
    np.testing.assert_allclose(latents, expected, rtol=0, atol=LATENT_TOLERANCE)
    error = latents.astype(np.float64) - expected
    assert np.sqrt(np.mean(error**2)) < LATENT_TOLERANCE / 10
    clear = np.abs(expected).min(axis=1) > LATENT_TOLERANCE
    # If there are few tokens, a single unclear one is a large share.
    assert clear.mean() > (0.99 if clear.size > 1000 else 0.95)
    np.testing.assert_array_equal(ids[clear], expected_ids[clear])


def test_every_model_has_cases_of_both_kinds() -> None:
    """A misspelt name would leave a model without a test."""
    for model in MODELS:
        assert model.cases("ema")
        assert model.cases("raw") or model.fixture == "video_full"
