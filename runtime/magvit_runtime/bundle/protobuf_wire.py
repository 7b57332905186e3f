"""Protobuf's wire format: the fields of one message, as its bytes hold them.

The bytes don't say which fields hold messages themselves. The caller knows these, and asks for
their fields in turn. Groups, which ONNX doesn't use, and numbers of more than 64 bits are refused.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_FIXED_SIZES = {FIXED64: 8, FIXED32: 4}

Field = tuple[int, int, int | memoryview]
# The values of each field of a message, by the field's number.
Fields = Mapping[int, list[int | memoryview]]


class WireError(ValueError):
    """The bytes are no message; the text says what is wrong, and at which byte."""


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, in their order; nothing is copied.

    Args:
        message: Its bytes, [size] of format "B".

    Yields:
        Field number, wire type, and value: for `VARINT` an int in 0 .. 2^64 - 1; for
        `LENGTH_DELIMITED`, `FIXED64` and `FIXED32` the bytes, a part of `message`.

    Raises:
        WireError: The bytes are no message.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = read_varint(message, at)
        number, wire_type = key >> 3, key & 7
        if not 0 < number < 2**29:
            raise WireError(f"no field has the number {number}, before byte {at}")
        if wire_type == VARINT:
            value, at = read_varint(message, at)
            yield number, wire_type, value
            continue
        if wire_type == LENGTH_DELIMITED:
            size, at = read_varint(message, at)
        elif wire_type in _FIXED_SIZES:
            size = _FIXED_SIZES[wire_type]
        else:
            raise WireError(f"wire type {wire_type} is none that ONNX uses, before byte {at}")
        if size > end - at:
            raise WireError(f"a field of {size} bytes at byte {at} passes the end, {end}")
        yield number, wire_type, message[at : at + size]
        at += size


def read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number at a place of a message, in 0 .. 2^64 - 1, and the place after it.

    Raises:
        WireError: It passes the message's end, or 64 bits.
    """
    value = 0
    for i, byte in enumerate(message[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if value >= 2**64:
                break
            return value, at + i + 1
    raise WireError(f"the number at byte {at} doesn't end, or has more than 64 bits")


def packed_varints(values: memoryview) -> Iterator[int]:
    """The numbers of a packed repeated field, each in 0 .. 2^64 - 1.

    Raises:
        WireError: The last doesn't end, or one has more than 64 bits.
    """
    at = 0
    while at < len(values):
        value, at = read_varint(values, at)
        yield value


def as_int64(value: int) -> int:
    """The signed value that a number of `read_varint` has in an int64 or int32 field."""
    return value - 2**64 if value >= 2**63 else value


def by_number(message: memoryview) -> Fields:
    """The values of each field of a message, in their order."""
    found: dict[int, list[int | memoryview]] = {}
    for number, _, value in fields(message):
        found.setdefault(number, []).append(value)
    return found


def messages(message: Fields, number: int) -> Iterator[memoryview]:
    """The values of a repeated field that holds messages, texts or bytes."""
    for value in message.get(number, ()):
        if not isinstance(value, memoryview):
            raise WireError(f"field {number} is no message")
        yield value


def only(message: Fields, number: int) -> memoryview:
    """The value of a field that must be there; if it is written twice, the last one counts."""
    found = list(messages(message, number))
    if not found:
        raise WireError(f"field {number} is missing")
    return found[-1]


def number_of(message: Fields, number: int) -> int:
    """The value of a field of an integer; 0 where it is left out."""
    value = message.get(number, [0])[-1]
    if not isinstance(value, int):
        raise WireError(f"field {number} is no number")
    return as_int64(value)


def text(value: memoryview) -> str:
    """A value as text."""
    return bytes(value).decode()


def integers(message: Fields, number: int) -> tuple[int, ...]:
    """A repeated field of integers, packed or not."""
    found: list[int] = []
    for value in message.get(number, ()):
        found += [value] if isinstance(value, int) else packed_varints(value)
    return tuple(as_int64(value) for value in found)
