"""What counts as agreement of probabilities, alone and beside ids."""

from __future__ import annotations

import numpy as np
import pytest

from magvit_runtime.agreement import new_comparison
from magvit_runtime.agreement.comparison import Comparison
from magvit_runtime.bundle.manifest import GraphRecord, TensorSpec

NAMES = ("a", "b", "c", "d")


def comparison(*kinds: str) -> Comparison:
    given = TensorSpec("x", "uint8", ("batch", 4), "pixels", "")
    made = tuple(TensorSpec(kind, "float32", ("batch", 3), kind, "") for kind in kinds)
    return new_comparison(GraphRecord("graph.onnx", (), (given,), made))


def probabilities(seed: int = 0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 3, (4, 3))
    powers = np.exp(logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def test_rounding_agrees_and_other_classes_do_not() -> None:
    expected = probabilities()
    for found, agrees in (
        (expected, True),
        (expected * np.float32(1 + 1e-6), True),
        (expected[:, ::-1], False),
        (np.where(np.eye(4, 3) > 0, np.nan, expected), False),
    ):
        compared = comparison("probabilities")
        compared.add({"probabilities": found}, {"probabilities": expected}, NAMES)
        assert compared.result().passes("fp32") is agrees


def test_what_is_next_to_nothing_decides_nothing() -> None:
    expected = np.array([[1, 1e-35, 1e-3]], np.float32)
    found = np.array([[1, 0, 1e-3]], np.float32)
    compared = comparison("probabilities")
    compared.add({"probabilities": found}, {"probabilities": expected}, NAMES[:1])
    assert compared.result().passes("fp32")


@pytest.mark.parametrize("kind", ["latents", "margins"])
def test_classes_count_where_the_ids_are_the_references(kind: str) -> None:
    random = np.random.default_rng(0)
    if kind == "latents":
        values = random.normal(0, 1, (4, 6, 2, 2))
        values[0, 0, 0, 0] = 1e-7
        ids = ((values > 0) * 2 ** np.arange(6)[:, None, None]).sum(axis=1).astype(np.int32)
        ours = values.copy()
        ours[0, 0, 0, 0] = -1e-7
        ours_ids = ids.copy()
        ours_ids[0, 0, 0] -= 1
    else:
        values = np.abs(random.normal(0, 1, (4, 2, 2)))
        values[0, 0, 0] = 1e-9
        ids = random.integers(0, 9, (4, 2, 2)).astype(np.int32)
        ours = values + 1e-7
        ours_ids = ids.copy()
        ours_ids[0, 0, 0] += 1
    expected = probabilities()
    reference = {"ids": ids, kind: values, "probabilities": expected}
    # Of the first clip an id is another within its margin; its class may be another too.
    found = np.concatenate([expected[:1, ::-1], expected[1:]])
    compared = comparison("ids", kind, "probabilities")
    assert set(compared.reference_kinds) == {"ids", kind, "probabilities"}
    compared.add({"ids": ours_ids, kind: ours, "probabilities": found}, reference, NAMES)
    agreement = compared.result()
    assert agreement.passes("fp32")
    assert (agreement.facts["clips"], agreement.facts["clips_of_equal_ids"]) == (4, 3)
    assert "3 of 4 clips of equal ids" in agreement.summary
    # Of a clip whose ids are the reference's it may not.
    compared.add({**reference, "probabilities": expected[:, ::-1]}, reference, NAMES)
    assert not compared.result().passes("fp32")
