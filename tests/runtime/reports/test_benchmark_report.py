"""The report of `magvit bench`: it has every measured figure, and fetches nothing."""

from __future__ import annotations

import msgspec
import pytest
from runtime.benchmarks.examples import OURS, benchmark, row
from runtime.reports.html_reading import Element, outward_references, read_html

from magvit_runtime.benchmarks.comparison import YARDSTICK
from magvit_runtime.benchmarks.costs import costs, read_prices
from magvit_runtime.benchmarks.results import Benchmark
from magvit_runtime.reports.benchmark_report import benchmark_report


def report(one: Benchmark, instance_type: str = "") -> Element:
    prices = read_prices()
    return read_html(benchmark_report(one, costs(one, prices, instance_type), prices))


def section(document: Element, title: str) -> Element:
    (found,) = [part for part in document.find("section") if part.find("h2")[0].text == title]
    return found


def rows(part: Element) -> list[list[str]]:
    return [[cell.text for cell in line.find("td")] for line in part.find("tr")[1:]]


def test_latencies_ratios_and_agreement_stand_side_by_side() -> None:
    ours, peer = rows(section(report(benchmark(0.1, 0.5)), "Latency"))
    assert ours[:3] == [OURS, "1", "102"]  # The median of 21 samples around 100 ms.
    assert ours[-2:] == ["1.00 (1.00 to 1.00)", "100 %"]
    assert peer[0] == YARDSTICK
    assert peer[-2:] == ["5.00 (5.00 to 5.00)", "100 %"]


def test_it_names_the_fastest_and_what_did_not_run() -> None:
    document = report(benchmark(0.1, 0.05))
    verdict = document.find("span")[0].text
    assert verdict.startswith(f"fastest at batch 1: {YARDSTICK}, 5")
    assert ["OpenVINO", "", "", "", "", "not run: openvino isn't installed"] in rows(
        section(document, "What ran")
    )


def test_projections_are_called_so_and_unchecked_prices_too() -> None:
    part = section(report(benchmark(), "c7i.large"), "Cost")
    basis = {line[0]: line[-1] for line in rows(part)}
    assert basis.pop("c7i.large") == f"measured: {OURS}, batch 1"
    assert all(text.startswith("PROJECTION") for text in basis.values())
    assert "NOT CHECKED" in part.text


def test_batch_scaling_is_drawn_where_there_are_several() -> None:
    titles = [heading.text for heading in report(benchmark()).find("h2")]
    assert "Batch scaling" not in titles
    assert "Roofline" in titles
    one = benchmark()
    several = msgspec.structs.replace(one, rows=[*one.rows, row(OURS, 0.15, 0.15, batch=2)])
    assert section(report(several), "Batch scaling").find("script")


def test_without_known_work_there_is_no_roofline() -> None:
    one = msgspec.structs.replace(benchmark(), work=None, ceilings=None)
    assert "Roofline" not in [heading.text for heading in report(one).find("h2")]


@pytest.mark.parametrize("name", ["</script><img src='//example.com'>", "<b>native</b>"])
def test_names_are_escaped_and_nothing_is_fetched(name: str) -> None:
    hostile = msgspec.structs.replace(benchmark(), model=name, not_run={name: name})
    document = report(hostile)
    assert outward_references(document) == []
    assert name in document.find("h1")[0].text
