"""The wire format as Google's own library writes it, and bytes that are no message."""

from __future__ import annotations

import struct
from itertools import pairwise

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magvit_runtime.bundle.protobuf_wire import (
    FIXED32,
    LENGTH_DELIMITED,
    VARINT,
    WireError,
    as_int64,
    fields,
    packed_varints,
)

INT64 = st.integers(-(2**63), 2**63 - 1)


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@given(i=INT64, f=st.floats(width=32, allow_nan=False), s=st.binary(), ints=st.lists(INT64))
def test_what_onnx_writes_is_read(i: int, f: float, s: bytes, ints: list[int]) -> None:
    attribute = onnx.AttributeProto(i=i, f=f, s=s, ints=ints)
    found = list(fields(memoryview(attribute.SerializeToString())))
    by_number = {number: (wire_type, value) for number, wire_type, value in found}
    wire_type, number = by_number[3]
    assert isinstance(number, int)
    assert (wire_type, as_int64(number)) == (VARINT, i)
    wire_type, four = by_number[2]
    assert (wire_type, struct.unpack("<f", four)) == (FIXED32, (f,))  # type: ignore[arg-type]
    assert by_number[4] == (LENGTH_DELIMITED, s)
    # AttributeProto.ints isn't packed: one field per number.
    assert [as_int64(v) for n, _, v in found if n == 8 and isinstance(v, int)] == ints


@given(st.lists(INT64))
def test_packed_numbers(dims: list[int]) -> None:
    packed = b"".join(varint(value % 2**64) for value in dims)
    assert [as_int64(value) for value in packed_varints(memoryview(packed))] == dims


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x08", "doesn't end"),
        (b"\x08" + b"\xff" * 9, "doesn't end"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "more than 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (b"\x00\x01", "no field has the number 0"),
        (varint(2**29 << 3) + b"\x01", "no field has the number 536870912"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x0c", "wire type 4"),
        (b"\x0e", "wire type 6"),
        (b"\x0f", "wire type 7"),
        (b"\x0a\x02\x01", "a field of 2 bytes at byte 2 passes the end, 3"),
        (b"\x0a" + varint(2**64 - 1), "passes the end"),
        (b"\x0d\x01\x02\x03", "a field of 4 bytes"),
        (b"\x09\x01\x02\x03\x04\x05\x06\x07", "a field of 8 bytes"),
    ],
)
def test_what_is_no_message_is_refused(content: bytes, what: str) -> None:
    with pytest.raises(WireError, match=what):
        list(fields(memoryview(content)))


@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_a_wire_error(content: bytes) -> None:
    """Every value is a part of the message, one after the other."""
    message = memoryview(content)
    try:
        found = [value for _, _, value in fields(message) if isinstance(value, memoryview)]
    except WireError:
        return
    places = [0]
    for value in found:
        places.append(content.index(bytes(value), places[-1]))
    assert all(first <= second for first, second in pairwise(places))
    assert sum(map(len, found)) <= len(content)
