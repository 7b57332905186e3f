"""The results of the steps as Markdown tables, ready for docs/benchmarks/."""

from __future__ import annotations

from typing import Any

Report = dict[str, Any]
Row = dict[str, Any]

_RUN = ("gpu", "machine", "python", "date", "revision")
_NONE = "–"


def markdown(report: Report) -> str:
    """The whole report."""
    steps: dict[str, Report] = report["steps"]
    lines = [", ".join(report[fact] for fact in _RUN if report.get(fact)), ""]
    rows = [row for step in steps.values() for row in step["rows"]]
    encoders = [row for row in rows if "batch" in row]
    if encoders:
        lines += _encoders(encoders)
    operators = [row for row in rows if "operator" in row]
    if operators:
        lines += _operators(operators)
    lines += ["| step | result | seconds | budget | begun |", "|---|---|---|---|---|"]
    for name, step in steps.items():
        result = _state(step)
        place = f"{step.get('seconds', _NONE)} | {step['budget_seconds']} | {step['date']}"
        lines.append(f"| {name} | {result} | {place} |")
    return "\n".join(lines) + "\n"


def _encoders(rows: list[Row]) -> list[str]:
    titles = (
        *("way", "precision", "batch", "compute ms", "host to host ms", "compute ms a clip"),
        *("rms(e)/σ_z", "tokens changed", "bits outside", "MiB", "MHz", "°C", "version"),
    )
    lines = [_line(titles), "|" + "---|" * len(titles)]
    for row in rows:
        place = (row["way"], row["precision"], row["batch"])
        if "error" in row:
            blanks = [""] * (len(titles) - len(place) - 2)
            lines.append(_line((*place, f"FAILED: {_cell(row['error'])}", *blanks, row["version"])))
            continue
        compute, host, gpu = row["compute"], row["host_to_host"], row["gpu"]
        a_clip = _NONE if compute is None else f"{compute['median_ms'] / row['batch']:.3f}"
        verdict = "" if row["passed"] else " (against the rule)"
        times = (_times(compute), _times(host), a_clip)
        agreement = (f"{row['rms_error_sigma']:.1e}", row["changed_tokens"])
        state = (gpu.get(name, _NONE) for name in ("memory_mib", "sm_mhz", "celsius"))
        outside = f"{row['bits_outside_margin']}{verdict}"
        lines.append(_line((*place, *times, *agreement, outside, *state, row["version"])))
    note = "Times: median (least). Compute is by CUDA events, host to host by the clock."
    return [*lines, "", note, ""]


def _operators(rows: list[Row]) -> list[str]:
    titles = ("operator", "type", "shape", "layout", "error", "µs", "of copy")
    lines = [_line(titles), "|" + "---|" * len(titles)]
    for row in rows:
        shape = "x".join(map(str, row["shape"]))
        layout = row.get("layout", "channels_last")
        error = f"{row['max_error']:.1e}{'' if row['passed'] else ' (too large)'}"
        of_copy = f"{row['of_copy']:.0%}"
        cells = (row["operator"], row["dtype"], shape, layout, error, row["microseconds"], of_copy)
        lines.append(_line(cells))
    return [*lines, ""]


def _line(cells: tuple[object, ...]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _times(times: Row | None) -> str:
    return _NONE if times is None else f"{times['median_ms']} ({times['minimum_ms']})"


def _state(step: Report) -> str:
    words = {"passed": "passed", "failed": "FAILED", "not run": "NOT RUN"}[step["state"]]
    return f"{words}: {_cell(step['reason'])}" if step["reason"] else words


def _cell(text: str) -> str:
    return text.strip().splitlines()[-1].replace("|", "\\|")[:300] if text.strip() else "?"
