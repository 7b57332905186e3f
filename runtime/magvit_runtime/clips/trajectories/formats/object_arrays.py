"""Reads arrays of Python objects out of npz files without running what is in them.

NumPy pickles such arrays, and pandas makes them of every column of text. A pickle can call any
function; here the few names that NumPy writes stand for inert classes, every other name is refused,
and only texts, numbers and missing values come out.
"""

from __future__ import annotations

import pickle
import re
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_PLAIN = (str, bytes, bool, int, float)
# NumPy's numbers and texts, by the names that their types have in a pickle.
_SCALAR = re.compile(r"b1|f[248]|[iu][1248]|U[1-9]\d{0,3}")


def read_objects(file: IO[bytes]) -> NDArray[np.object_]:
    """Reads an .npy file that holds an array of objects.

    Args:
        file: At its start.

    Returns:
        object array of texts, bytes, numbers and None.

    Raises:
        ValueError: It holds something else, or is damaged.
    """
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError("a version of .npy that holds no objects")
    shape, _, _ = read_header(file)
    try:
        array = _Unpickler(file).load()
    except Exception as error:  # A damaged pickle can raise nearly anything.
        raise ValueError("a pickle of something else than texts and numbers") from error
    if not isinstance(array, _Array) or len(array.values) != np.prod(shape, dtype=np.int64):
        raise ValueError("a pickle of something else than an array")
    result = np.empty(len(array.values), object)
    result[:] = [_plain(value) for value in array.values]
    return result.reshape(shape)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _STAND_INS.get((module.replace("numpy.core.", "numpy._core."), name), self)
        if found is self:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return found


class _Array:
    """Stands for the array that NumPy would make: keeps its values."""

    values: list[Any]

    def __init__(self, *_: object) -> None:
        self.values = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        values = state[-1]
        if not isinstance(values, list):
            raise pickle.UnpicklingError("an array of something else than objects")
        self.values = values


class _DType:
    """Stands for a type of NumPy: keeps its name and byte order."""

    def __init__(self, name: str = "", *_: object) -> None:
        self.name = name
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _Scalar:
    """Stands for a number of NumPy: keeps its type and bytes."""

    def __init__(self, kind: _DType, data: bytes = b"") -> None:
        self.kind = kind
        self.data = data


class _NDArray:
    """Stands for NumPy's class of arrays, which its own function takes as an argument."""


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "scalar"): _Scalar,
    ("numpy", "ndarray"): _NDArray,
    ("numpy", "dtype"): _DType,
    ("pandas._libs.missing", "NA"): None,
}


def _plain(value: object) -> object:
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, _Scalar) and _SCALAR.fullmatch(str(value.kind.name)):
        return np.frombuffer(value.data, value.kind.order + value.kind.name)[0].item()
    raise ValueError("a pickle of something else than texts and numbers")
