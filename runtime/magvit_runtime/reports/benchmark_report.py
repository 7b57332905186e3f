"""The report of `magvit bench`: how fast, how sure, where the time goes, and at what price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from magvit_runtime.benchmarks.costs import Cost, PriceTable
from magvit_runtime.benchmarks.results import Benchmark, Ceilings, Row, Work
from magvit_runtime.benchmarks.tables import (
    agreement_text,
    cost_basis,
    full_texts,
    milliseconds,
    part_text,
    price_note,
    ratio_text,
    settings_text,
)
from magvit_runtime.hardware.gpu_states import state_text
from magvit_runtime.reports.figures import boxes, grouped_bars, roofline, stacked_shares
from magvit_runtime.reports.page import Cell, Page, Section, Table, render_page


def benchmark_report(benchmark: Benchmark, costs: Sequence[Cost], prices: PriceTable) -> str:
    """HTML of a benchmark's report, in one piece.

    Args:
        benchmark: The benchmark.
        costs: The costs of a million clips.
        prices: The prices that they use.
    """
    page = Page(
        title=f"Speed of {benchmark.model}",
        verdict=_verdict(benchmark),
        facts=_facts(benchmark),
        sections=list(_sections(benchmark, costs, prices)),
    )
    return render_page(page)


def _sections(benchmark: Benchmark, costs: Sequence[Cost], prices: PriceTable) -> Iterator[Section]:
    yield _latencies(benchmark)
    yield _distribution(benchmark)
    if len({row.batch for row in benchmark.rows}) > 1:
        yield _scaling(benchmark)
    if len(benchmark.settings.workers) > 1:
        yield _worker_scaling(benchmark)
    if any(row.parts for row in benchmark.rows):
        yield _breakdown(benchmark)
    if benchmark.work and benchmark.ceilings:
        yield _roofline(benchmark.rows, benchmark.work, benchmark.ceilings)
    if benchmark.cold_starts:
        yield _cold_starts(benchmark)
    if costs:
        yield _costs(costs, prices)
    yield _encoders(benchmark)


def _verdict(benchmark: Benchmark) -> Cell:
    """The fastest of all at the smallest batch."""
    batch = min(row.batch for row in benchmark.rows)
    rows = [row for row in benchmark.rows if row.batch == batch]
    best = min(rows, key=lambda row: row.median.value)
    return Cell(
        f"fastest at batch {batch}: {best.encoder}, {milliseconds(best.median.value)} ms", "plain"
    )


def _facts(benchmark: Benchmark) -> dict[str, str]:
    machine = benchmark.machine
    clocks = machine.clocks_mhz
    temperature = machine.temperature_c
    return {
        "Weights": benchmark.weights,
        "Machine": f"{machine.cpu}, {machine.cpus} CPUs, {machine.memory_gib:g} GiB",
        "Instance type": machine.instance_type or "no EC2 instance",
        "GPUs": "; ".join(machine.gpus) or "none",
        "Clocks": f"{min(clocks):,.0f} to {max(clocks):,.0f} MHz" if clocks else "not told",
        "Temperature": "not told" if temperature is None else f"{temperature:.0f} °C",
        "GPUs before": "; ".join(map(state_text, machine.gpu_states)) or "none",
        "GPUs after": "; ".join(map(state_text, benchmark.gpus_after)) or "none",
        "Load before": f"{machine.load:.2f} processes",
        "Versions": ", ".join(f"{name} {version}" for name, version in machine.versions.items()),
        "Settings": settings_text(benchmark),
        "Ids compared with": benchmark.reference,
        "Measured": benchmark.created,
    }


def _latencies(benchmark: Benchmark) -> Section:
    full = [f"Kept full by {workers}" for workers in benchmark.settings.workers]
    columns = (
        *("Encoder", "Batch", "p50 ms", "95 % interval", "p90", "p95", "p99", "Max"),
        *("Clips/s", *full, "Ratio", "Equal ids"),
    )
    text = (
        "From uint8 frames to ids, one request at a time; all encoders took turns on the same "
        f"clips. The ratio is the time against {benchmark.encoders[0].name} of the same turns: "
        "above 1 is slower. Intervals come from the scatter between repetitions. A percentile "
        "is told from as many calls on as make it nearly sure that one lies beyond it: 64 for p90, "
        "130 for p95, 662 for p99."
    )
    return Section(
        "Latency", text, Table(columns, [_latency(row, benchmark) for row in benchmark.rows])
    )


def _latency(row: Row, benchmark: Benchmark) -> list[Cell]:
    latency = row.latency
    numbers = [
        str(row.batch),
        milliseconds(latency.p50),
        f"{milliseconds(row.median.low)} to {milliseconds(row.median.high)}",
        *map(milliseconds, (latency.p90, latency.p95, latency.p99, latency.max)),
        f"{row.clips_per_second.value:.3g}",
        *full_texts(row, benchmark),
        ratio_text(row.ratio),
        agreement_text(row),
    ]
    return [Cell(row.encoder), *(Cell(number, number=True) for number in numbers)]


def _distribution(benchmark: Benchmark) -> Section:
    samples = {_label(row): (row.samples.ravel() * 1e3).tolist() for row in benchmark.rows}
    text = "Every call that was timed, and the quartiles."
    figure = boxes("distribution", samples, x_title="ms a call")
    return Section("Latency distribution", text, figure=figure)


def _scaling(benchmark: Benchmark) -> Section:
    batches = sorted({row.batch for row in benchmark.rows})
    speeds = {(row.encoder, row.batch): row.clips_per_second.value for row in benchmark.rows}
    names = dict.fromkeys(row.encoder for row in benchmark.rows)
    figure = grouped_bars(
        "scaling",
        [str(batch) for batch in batches],
        {name: [speeds.get((name, batch), 0) for batch in batches] for name in names},
        x_title="clips of a call",
        y_title="clips a second",
    )
    return Section("Batch scaling", "One request at a time.", figure=figure)


def _worker_scaling(benchmark: Benchmark) -> Section:
    workers = benchmark.settings.workers
    figure = grouped_bars(
        "worker-scaling",
        [str(count) for count in workers],
        {
            _label(row): [row.kept_full[count].value for count in workers]
            for row in benchmark.rows
            if row.kept_full
        },
        x_title="threads that call at once",
        y_title="clips a second",
    )
    return Section("Worker scaling", "All threads call without a pause.", figure=figure)


def _breakdown(benchmark: Benchmark) -> Section:
    rows = [row for row in benchmark.rows if row.parts]
    names = list(dict.fromkeys(name for row in rows for name in row.parts))
    columns = ("Encoder", "Batch", *(f"{name} ms" for name in names))
    table = Table(
        columns,
        [
            [
                Cell(row.encoder),
                Cell(str(row.batch), number=True),
                *(Cell(part_text(row, name), number=True) for name in names),
            ]
            for row in rows
        ],
    )
    parts = {name: [row.parts.get(name, 0.0) for row in rows] for name in names}
    figure = stacked_shares(
        "breakdown", [_label(row) for row in rows], parts, x_title="% of a request"
    )
    text = (
        "Medians of the parts of a request. “run” is the backend's own run; on a GPU it is split "
        "into copies, computing, and the rest. Normalising the pixels is part of the graph."
    )
    return Section("Where the time goes", text, table, figure)


def _roofline(rows: Sequence[Row], work: Work, ceilings: Ceilings) -> Section:
    points = {
        _label(row): (
            row.batch * work.flop / work.bytes(row.batch),
            row.batch * work.flop / row.median.value,
        )
        for row in rows
    }
    figure = roofline(
        "roofline",
        points,
        flop_per_second=ceilings.flop_per_second,
        bytes_per_second=ceilings.bytes_per_second,
    )
    text = (
        f"One clip asks for {work.flop / 1e9:,.1f} GFLOP of convs done directly and, at batch 1, "
        f"moves at least {work.bytes(1) / 1e9:.3g} GB. This CPU reaches "
        f"{ceilings.flop_per_second / 1e9:,.0f} GFLOP/s in a float32 matrix product and "
        f"{ceilings.bytes_per_second / 1e9:.1f} GB/s in a copy, on all its cores. An encoder that "
        "skips work, by Winograd and shared backgrounds, can be above the roof."
    )
    return Section("Roofline", text, figure=figure)


def _cold_starts(benchmark: Benchmark) -> Section:
    columns = (
        *("Encoder", "Start Python s", "Load s", "First call s", "Second call s"),
        *("Peak MiB", "GPU MiB"),
    )
    rows = []
    for name, cold in benchmark.cold_starts.items():
        seconds = (cold.imports, cold.load, cold.first_call, cold.second_call)
        device = "" if cold.device_mib is None else f"{cold.device_mib:,}"
        numbers = [*(f"{value:.2f}" for value in seconds), f"{cold.host_mib:,.0f}", device]
        rows.append([Cell(name), *(Cell(number, number=True) for number in numbers)])
    text = (
        "For each encoder, a fresh process opens the bundle, digests included, and encodes one "
        "black clip twice. The files are in the system's cache. Memory is the process's peak."
    )
    return Section("Cold start", text, Table(columns, rows))


def _costs(costs: Sequence[Cost], prices: PriceTable) -> Section:
    columns = ("Machine", "USD/h", "Clips/s", "USD a million clips", "How it is known")
    rows = [
        [
            Cell(cost.type),
            Cell(f"{cost.usd_per_hour:.4g}", number=True),
            Cell(f"{cost.clips_per_second:,.3g}", number=True),
            Cell(f"{cost.usd_per_million:,.2f}", "quiet" if cost.is_projection else "plain", True),
            Cell(cost_basis(cost), "quiet" if cost.is_projection else "plain"),
        ]
        for cost in costs
    ]
    text = (
        f"{price_note(prices)}. Projections are direct convs at "
        "the peaks of data sheets, which no real run of them reaches."
    )
    return Section("Cost", text, Table(columns, rows))


def _encoders(benchmark: Benchmark) -> Section:
    rows = [
        [
            Cell(encoder.name),
            Cell(encoder.kind),
            Cell(encoder.version),
            Cell(encoder.device),
            Cell(encoder.precision),
            Cell(encoder.settings),
        ]
        for encoder in benchmark.encoders
    ]
    rows += [
        [Cell(name), Cell(""), Cell(""), Cell(""), Cell(""), Cell(f"not run: {why}", "quiet")]
        for name, why in benchmark.not_run.items()
    ]
    columns = ("Encoder", "Whose", "Version", "Device", "Precision", "Settings")
    return Section("What ran", "The same weights and clips for all.", Table(columns, rows))


def _label(row: Row) -> str:
    return f"{row.encoder}, batch {row.batch}"
