"""Buffers that are needed together never share memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from magvit_runtime.backends.native.arena import ALIGNMENT, Lifetime, plan_arena

lifetimes = st.builds(
    lambda size, first, length: Lifetime(size, first, first + length),
    st.integers(0, 5000),
    st.integers(0, 20),
    st.integers(0, 20),
)


@given(st.lists(lifetimes, max_size=30))
def test_buffers_that_meet_do_not_overlap(buffers: list[Lifetime]) -> None:
    named = {str(i): buffer for i, buffer in enumerate(buffers)}
    arena = plan_arena(named)
    for name, buffer in named.items():
        start = arena.offsets[name]
        assert start % ALIGNMENT == 0
        assert start + buffer.size <= arena.size
        for other, neighbour in named.items():
            if other != name and buffer.first <= neighbour.last and neighbour.first <= buffer.last:
                begin = arena.offsets[other]
                assert start + buffer.size <= begin or begin + neighbour.size <= start


def test_memory_is_used_again() -> None:
    chain = {str(i): Lifetime(1024, i, i + 1) for i in range(50)}
    assert plan_arena(chain).size == 2 * 1024
