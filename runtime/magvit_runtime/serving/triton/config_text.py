"""config.pbtxt: a Triton model's configuration, in the text format of Protocol Buffers.

The fields are those of `inference.ModelConfig`. Protocol Buffers themselves aren't needed to write
a few of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence


class Word(str):
    """A value that is written without quotes: a name of an enumeration."""

    __slots__ = ()


Scalar = str | int
Value = Scalar | Mapping[str, "Value"] | Sequence["Value"]

# Triton's names of element types.
DATA_TYPES = {
    "uint8": Word("TYPE_UINT8"),
    "int32": Word("TYPE_INT32"),
    "int64": Word("TYPE_INT64"),
    "float16": Word("TYPE_FP16"),
    "float32": Word("TYPE_FP32"),
    "string": Word("TYPE_STRING"),
}


def config_text(fields: Mapping[str, Value]) -> str:
    """The text of a message.

    Args:
        fields: Values by their fields' names, in the order in which they are written. A mapping is
            a message, a sequence a repeated field, and a `bool` a bool.
    """
    return "".join(f"{line}\n" for name, value in fields.items() for line in _lines(name, value))


def tensor(name: str, dtype: str, shape: Sequence[int | str]) -> dict[str, Value]:
    """An input or output of a model.

    Args:
        name: Its name.
        dtype: NumPy name of its element type, or "string".
        shape: Its sizes; a string stands for any size.
    """
    sizes = [-1 if isinstance(size, str) else size for size in shape]
    return {"name": name, "data_type": DATA_TYPES[dtype], "dims": sizes}


def map_entries(values: Mapping[str, Value]) -> list[Value]:
    """A map field, which the text format writes as a repeated message of keys and values."""
    return [{"key": key, "value": value} for key, value in values.items()]


def _lines(name: str, value: Value) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield f"{name} {{"
        for key, deeper in value.items():
            yield from (f"  {line}" for line in _lines(key, deeper))
        yield "}"
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if all(isinstance(one, (str, int)) for one in value):
            yield f"{name}: [{', '.join(_scalar(one) for one in value)}]"
        else:
            for one in value:
                yield from _lines(name, one)
    else:
        yield f"{name}: {_scalar(value)}"


def _scalar(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and not isinstance(value, Word):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
