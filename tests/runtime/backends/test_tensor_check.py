"""Inputs of graphs: types, shapes and ranges are checked before a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from magvit_runtime import InputError
from magvit_runtime.backends.tensor_check import check_array
from magvit_runtime.bundle.manifest import DType, TensorSpec


def spec_of(dtype: DType, minimum: float | None, maximum: float | None) -> TensorSpec:
    return TensorSpec("x", dtype, ("batch", 2), "ids", "token ids", minimum, maximum)


def message_of(array: np.ndarray[Any, Any], spec: TensorSpec) -> str:
    with pytest.raises(InputError) as error:
        check_array("ids", array, spec)
    return str(error.value)


@pytest.mark.parametrize("value", [-1, 4, 2**31 - 1])
def test_the_first_value_out_of_range_is_shown(value: int) -> None:
    array = np.array([[0, 3], [value, 99]], np.int32)
    assert message_of(array, spec_of("int32", 0, 3)) == (
        f"ids are out of range: found {value} at [1, 0], expected 0 to 3 (token ids)"
    )


def test_the_ends_of_a_range_are_in_it() -> None:
    check_array("ids", np.array([[0, 3]], np.int32), spec_of("int32", 0, 3))
    check_array("ids", np.array([[0, 2**31 - 1]], np.int32), spec_of("int32", 0, 2**31 - 1))


def test_a_range_may_have_one_end() -> None:
    array = np.array([[-(2**31), 2**31 - 1]], np.int32)
    check_array("ids", array, spec_of("int32", None, None))
    lowest = spec_of("int32", 0, None)
    assert message_of(array, lowest).startswith("ids are out of range: found -2147483648 at [0, 0]")
    highest = spec_of("int32", None, 5)
    assert message_of(array, highest).startswith("ids are out of range: found 2147483647 at [0, 1]")


def test_bytes_have_a_range_too_where_it_is_narrower() -> None:
    array = np.array([[0, 255]], np.uint8)
    check_array("ids", array, spec_of("uint8", 0, 255))
    assert "found 255 at [0, 1]" in message_of(array, spec_of("uint8", 0, 1))


def test_shape_comes_before_range() -> None:
    assert "don't fit this model" in message_of(np.full(3, -1, np.int32), spec_of("int32", 0, 3))
