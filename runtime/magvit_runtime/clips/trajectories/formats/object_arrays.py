"""Reads arrays of Python objects out of npz files without running what is in them.

NumPy pickles such arrays, and pandas makes them of every column of text. A pickle can call any
function; here the few names that NumPy writes stand for inert classes, every other name is refused,
and only texts, numbers, missing values and lists of them come out.
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


def read_objects(file: IO[bytes], lists: int = 0) -> NDArray[np.object_]:
    """Reads an .npy file that holds an array of objects.

    Args:
        file: At its start.
        lists: Levels of lists, or dimensions of arrays, that an object may have.

    Returns:
        object array of texts, bytes, numbers and None, and of lists where the file holds lists,
        tuples or arrays.

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
        if not isinstance(array, _Array) or array.data is not None or array.shape != shape:
            raise ValueError("a pickle of something else than an array of objects")
        return _objects([_plain(value, lists) for value in array.values], shape)
    except Exception as error:  # A damaged pickle can raise nearly anything.
        raise ValueError("a pickle of something else than texts and numbers") from error


def _objects(values: list[Any], shape: tuple[int, ...]) -> NDArray[np.object_]:
    result = np.empty(len(values), object)
    for place, value in enumerate(values):  # At once, NumPy would look into lists.
        result[place] = value
    return result.reshape(shape)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _STAND_INS.get((module.replace("numpy.core.", "numpy._core."), name), self)
        if found is self:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return found


class _Array:
    """Stands for the array that NumPy would make: keeps its shape, and its values or bytes."""

    def __init__(self, *_: object) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.values: list[Any] = []
        self.data: bytes | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.kind, self.by_columns, content = state
        if isinstance(content, list):
            self.values = content
        else:
            self.data = content

    def listed(self, lists: int) -> Any:
        """The values as lists, of `lists` levels at most."""
        if not 1 <= len(self.shape) <= lists:
            raise ValueError("an array of too many dimensions")
        if self.data is None:
            return _objects([_plain(value, 0) for value in self.values], self.shape).tolist()
        flat = np.frombuffer(self.data, self.kind.plain())
        if self.by_columns:
            return flat.reshape(self.shape[::-1]).T.tolist()
        return flat.reshape(self.shape).tolist()


class _DType:
    """Stands for a type of NumPy: keeps its name and byte order."""

    def __init__(self, name: str = "", *_: object) -> None:
        self.name = name
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"

    def plain(self) -> str:
        """NumPy's word for it, if it is a number or a text."""
        if not _SCALAR.fullmatch(str(self.name)):
            raise ValueError("a type that is neither number nor text")
        return f"{self.order}{self.name}"


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


def _plain(value: object, lists: int = 0) -> object:
    """A value without stand-ins; lists may be nested in `lists` levels."""
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, _Scalar):
        return np.frombuffer(value.data, value.kind.plain())[0].item()
    if isinstance(value, _Array):
        return value.listed(lists)
    if isinstance(value, list | tuple) and lists:
        return [_plain(item, lists - 1) for item in value]
    raise ValueError("a pickle of something else than texts and numbers")
