"""Costs: which are measured, which are projected, and which price tables are taken."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from runtime.benchmarks.examples import benchmark

from magvit_runtime import InputError
from magvit_runtime.benchmarks.costs import costs, read_prices

TABLE = """
date = 2026-01-02
region = "here"
source = "an invoice"
checked = true
[[instances]]
type = "cpu"
usd_per_hour = 3.6
precision = "fp32"
tflops = 1.0
gb_per_s = 1000.0
[[instances]]
type = "gpu"
usd_per_hour = 36.0
precision = "fp16"
tflops = 1000.0
gb_per_s = 100.0
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(TABLE)
    return path


def test_the_packages_own_table_is_dated_and_says_that_it_is_unchecked() -> None:
    prices = read_prices()
    assert not prices.checked
    assert prices.region == "us-east-1"
    families = {instance.type.split(".")[0] for instance in prices.instances}
    assert families == {"c7i", "g4dn", "g5", "g6", "p4d", "p5"}


def test_only_this_machines_type_is_measured(table: Path) -> None:
    cpu, gpu = costs(benchmark(ours=0.1), read_prices(table), "cpu")
    assert not cpu.is_projection
    # Kept full, 20 clips a second: 3.6 USD buy 72,000.
    assert cpu.clips_per_second == pytest.approx(20)
    assert cpu.usd_per_million == pytest.approx(50)
    # 2 GB of float32 maps are 1 GB of float16: 0.01 s, five times what 2 TFLOP take.
    assert gpu.is_projection
    assert gpu.clips_per_second == pytest.approx(100)
    assert gpu.usd_per_million == pytest.approx(100)


def test_elsewhere_all_are_projections(table: Path) -> None:
    cpu, gpu = costs(benchmark(), read_prices(table), "")
    assert cpu.is_projection
    assert gpu.is_projection
    assert cpu.clips_per_second == pytest.approx(0.5)  # 2 TFLOP at 1 TFLOP/s.


def test_without_known_work_nothing_is_projected(table: Path) -> None:
    unknown = msgspec.structs.replace(benchmark(), work=None)
    (measured,) = costs(unknown, read_prices(table), "gpu")
    assert measured.type == "gpu"


@pytest.mark.parametrize(
    "change", [("usd_per_hour = 3.6", "usd_per_hour = 0"), ("tflops", "flops"), ("date", "day")]
)
def test_other_tables_are_refused(table: Path, change: tuple[str, str]) -> None:
    table.write_text(TABLE.replace(*change))
    with pytest.raises(InputError, match="is no price table"):
        read_prices(table)
