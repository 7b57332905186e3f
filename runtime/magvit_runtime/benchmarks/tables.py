"""Benchmarks as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from magvit_runtime.benchmarks.comparison import Compared
from magvit_runtime.benchmarks.costs import Cost, PriceTable
from magvit_runtime.benchmarks.load_test import LoadTest
from magvit_runtime.benchmarks.results import Benchmark, Row
from magvit_runtime.text_tables import render_table, text_table
from magvit_runtime.types import Estimate


def benchmark_text(benchmark: Benchmark, costs: Sequence[Cost], prices: PriceTable) -> str:
    """A benchmark as lines of text."""
    machine = benchmark.machine
    lines = [
        f"{benchmark.model}, {benchmark.weights}",
        f"{machine.cpu}, {machine.cpus} CPUs, load {machine.load:.1f}; {settings_text(benchmark)}",
        render_table(_latencies(benchmark)),
        render_table(_parts(benchmark)),
    ]
    if benchmark.cold_starts:
        lines.append(render_table(_cold_starts(benchmark)))
    if costs:
        lines += [render_table(_costs(costs)), price_note(prices)]
    lines += [f"not run: {name}: {why}" for name, why in benchmark.not_run.items()]
    return "\n".join(lines)


def load_text(test: LoadTest) -> str:
    """A load test as lines of text."""
    machine = test.machine
    table = text_table(
        "right",
        f"{test.encoder.name}: requests of one clip that arrive at random, the queue included",
        ("requests/s", "answered", "busy", "p50 ms", "p90", "p95", "p99", "max"),
    )
    if test.objective:
        table.add_column(test.objective, justify="right")
    for run in test.runs:
        latency = run.latency
        held = {None: [], True: ["held"], False: ["not held"]}[run.held]
        figures = (latency.p50, latency.p90, latency.p95, latency.p99, latency.max)
        row = (f"{run.rate:.3g}", str(run.requests), f"{run.busy:.0%}", *map(milliseconds, figures))
        table.add_row(*row, *held)
    lines = [
        f"{test.model}, {test.weights}",
        f"{machine.cpu}, {machine.cpus} CPUs, load {machine.load:.1f}; {test.encoder.settings}, "
        f"{test.workers} requests at once",
        f"capacity: {test.capacity:.3g} requests a second",
        render_table(table),
    ]
    if test.objective and test.best_rate is None:
        lines.append(f"{test.objective} holds at no rate")
    elif test.best_rate is not None:
        share = test.best_rate / test.capacity
        lines.append(
            f"{test.objective} holds up to {test.best_rate:.3g} requests a second, {share:.0%} of "
            "the capacity"
        )
    return "\n".join(lines)


def comparison_text(compared: Sequence[Compared]) -> str:
    """A comparison as lines of text."""
    table = text_table(
        "left", "old against new", ("encoder", "batch", "measure", "old", "new", "change")
    )
    for one in compared:
        bounds = (f"{e.value:.4g} ({e.low:.4g} to {e.high:.4g})" for e in (one.old, one.new))
        table.add_row(one.encoder, str(one.batch), one.measure, *bounds, one.change)
    return render_table(table)


def settings_text(benchmark: Benchmark) -> str:
    """How it was measured, in a few words."""
    settings = benchmark.settings
    is_decoder = settings.role == "decode"
    sizes = settings.clip_shape if is_decoder else settings.clip_shape[:-1]
    clips = f"{'ids' if is_decoder else settings.clips + ' clips'} of {'x'.join(map(str, sizes))}"
    return (
        f"{settings.threads} threads, {clips}, {settings.inputs} input "
        f"sets, {settings.repetitions} repetitions of {settings.rounds} rounds"
    )


def price_note(prices: PriceTable) -> str:
    """The source of the prices, and whether they were checked."""
    trust = "" if prices.checked else "; NOT CHECKED against the seller's list"
    return f"Prices: {prices.region}, {prices.date}, {prices.source}{trust}"


def milliseconds(seconds: float | None) -> str:
    """Three significant digits in milliseconds, as "0.123", "1.23" or "1,230".

    None, a percentile with too few samples for it, is "not enough".
    """
    if seconds is None:
        return "not enough"
    value = seconds * 1e3
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio_text(ratio: Estimate) -> str:
    """A ratio with its interval."""
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def agreement_text(row: Row) -> str:
    """The share of equal ids, never rounded up to 100 %."""
    if row.agreement is None:
        return "unknown"
    if row.agreement == 1:
        return "100 %"
    return f"{min(row.agreement, 0.99999):.3%}".replace("%", " %")


def full_texts(row: Row, benchmark: Benchmark) -> list[str]:
    """Clips per second with some workers calling, for each number of them."""
    found = (row.kept_full.get(workers) for workers in benchmark.settings.workers)
    return ["" if full is None else f"{full.value:.3g}" for full in found]


def _latencies(benchmark: Benchmark) -> Table:
    is_decoder = benchmark.settings.role == "decode"
    given, made = ("ids", "frames") if is_decoder else ("frames", "ids")
    full = [f"kept full by {workers}" for workers in benchmark.settings.workers]
    columns = (
        *("encoder", "batch", "p50 ms", "95 % interval", "p90", "p95", "p99", "max"),
        *("clips/s", *full, f"ratio to {benchmark.encoders[0].name}", f"equal {made}"),
    )
    table = text_table("right", f"{given} to {made}, one request at a time", columns)
    for row in benchmark.rows:
        latency = row.latency
        table.add_row(
            row.encoder,
            str(row.batch),
            milliseconds(latency.p50),
            f"{milliseconds(row.median.low)} to {milliseconds(row.median.high)}",
            *map(milliseconds, (latency.p90, latency.p95, latency.p99, latency.max)),
            f"{row.clips_per_second.value:.3g}",
            *full_texts(row, benchmark),
            ratio_text(row.ratio),
            agreement_text(row),
        )
    return table


def _parts(benchmark: Benchmark) -> Table:
    rows = [row for row in benchmark.rows if row.parts]
    names = list(dict.fromkeys(name for row in rows for name in row.parts))
    table = text_table("right", "median ms of each part of a request", ("encoder", "batch", *names))
    for row in rows:
        parts = [part_text(row, name) for name in names]
        table.add_row(row.encoder, str(row.batch), *parts)
    return table


def part_text(row: Row, name: str) -> str:
    """Milliseconds of one part of a request; "–" if the encoder has no such part."""
    return milliseconds(row.parts[name]) if name in row.parts else "–"


def _cold_starts(benchmark: Benchmark) -> Table:
    columns = ("encoder", "start s", "load s", "first call s", "second call s", "peak MiB")
    table = text_table("right", "a fresh process", columns)
    for name, cold in benchmark.cold_starts.items():
        seconds = (cold.imports, cold.load, cold.first_call, cold.second_call)
        table.add_row(name, *(f"{value:.2f}" for value in seconds), f"{cold.host_mib:,.0f}")
    return table


def _costs(costs: Sequence[Cost]) -> Table:
    columns = ("machine", "USD/h", "clips/s", "USD a million clips", "how it is known")
    table = text_table("right", "cost", columns)
    for cost in costs:
        table.add_row(
            cost.type,
            f"{cost.usd_per_hour:.4g}",
            f"{cost.clips_per_second:.3g}",
            f"{cost.usd_per_million:,.2f}",
            cost_basis(cost),
        )
    return table


def cost_basis(cost: Cost) -> str:
    """Whether a cost was measured."""
    if cost.is_projection:
        return f"PROJECTION: {cost.encoder}"
    return f"measured: {cost.encoder}"
