"""Verdicts on two benchmarks: what is beyond the noise, and what can't be compared."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from runtime.benchmarks.examples import OURS, benchmark, on_another_cpu

from magvit_runtime import InputError
from magvit_runtime.benchmarks.comparison import compare_benchmarks
from magvit_runtime.benchmarks.results import read_benchmark


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.1, "no change"), (0.101, "no change"), (0.2, "slower"), (0.05, "faster")],
)
def test_seconds_are_judged_where_nothing_else_was_timed(seconds: float, expected: str) -> None:
    (one,) = compare_benchmarks(benchmark(0.1, None), benchmark(seconds, None))
    assert (one.encoder, one.batch, one.measure, one.change) == (OURS, 1, "seconds", expected)


def test_a_machine_that_is_slower_as_a_whole_is_no_change() -> None:
    (one,) = compare_benchmarks(benchmark(0.1, 0.5), benchmark(0.2, 1.0))
    assert (one.measure, one.change) == ("times the yardstick", "no change")
    assert one.old.value == pytest.approx(0.2)


def test_an_encoder_that_is_slower_than_the_machine_is_slower() -> None:
    (one,) = compare_benchmarks(benchmark(0.1, 0.5), benchmark(0.11, 0.5))
    assert one.change == "slower"


def test_a_yardstick_in_one_run_only_is_not_used() -> None:
    (one,) = compare_benchmarks(benchmark(0.1, 0.5), benchmark(0.1, None))
    assert one.measure == "seconds"


def test_other_machines_are_refused() -> None:
    with pytest.raises(InputError, match="the machine differs: found another CPU, expected a CPU"):
        compare_benchmarks(benchmark(), on_another_cpu(benchmark()))


def test_nothing_in_common_is_refused() -> None:
    empty = msgspec.structs.replace(benchmark(), rows=[])
    with pytest.raises(InputError, match="no encoder and batch size in common"):
        compare_benchmarks(empty, benchmark())


def test_a_benchmark_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_bytes(msgspec.json.encode(benchmark()))
    assert read_benchmark(path) == benchmark()


@pytest.mark.parametrize("text", ["{}", "no JSON", '{"schema_version": 1, "x": 2}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "one.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is no benchmark of this version"):
        read_benchmark(path)
