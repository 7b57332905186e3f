"""The sums of gpu-check's profile, on events as PyTorch's profiler writes them."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("gpu_check_scripts")


def events_of(start: float, conv: float) -> list[dict[str, Any]]:
    """A run: a copy, two launches of a kernel with a pause of 1 µs between them, and a copy."""
    name = "void magvit::(anonymous namespace)::Apply<__half>(Source, int)"
    return [
        {"cat": "gpu_memcpy", "name": "Memcpy HtoD", "ts": start, "dur": 50.0},
        {"cat": "kernel", "name": name, "ts": start + 60, "dur": conv},
        {"cat": "kernel", "name": name, "ts": start + 61 + conv, "dur": 10.0},
        {"cat": "gpu_memcpy", "name": "Memcpy DtoH", "ts": start + 90 + conv, "dur": 5.0},
    ]


def test_copies_are_not_counted_and_medians_are_taken() -> None:
    import kernel_times

    runs = [events_of(1000.0 * run, conv) for run, conv in enumerate((30.0, 20.0, 900.0))]
    events = [event for run in runs for event in run]
    found = kernel_times.summary(kernel_times.split_runs(events, 3))
    assert found == {
        "busy_us": 40.0,
        "span_us": 41.0,
        "launches": 2,
        "kernels": [{"name": "Apply<__half>", "launches": 2, "us": 40.0}],
    }


def test_runs_that_differ_are_refused() -> None:
    import kernel_times

    with pytest.raises(ValueError, match="4 events in 3 equal runs"):
        kernel_times.split_runs(events_of(0.0, 10.0), 3)
