"""What the steps found, as one Markdown table after another, ready for docs/benchmarks/."""

from __future__ import annotations

from typing import Any

Report = dict[str, Any]
Row = dict[str, Any]


def markdown(report: Report) -> str:
    """The whole report."""
    steps: dict[str, Report] = report["steps"]
    lines = [f"{report['gpu']}, {report['date']}, {report['revision']}", ""]
    rows = [row for step in steps.values() for row in step.get("rows", [])]
    encoders = [row for row in rows if "batch" in row]
    if encoders:
        lines += _encoders(encoders)
    operators = [row for row in rows if "operator" in row]
    if operators:
        lines += _operators(operators)
    lines += ["| step | result | seconds |", "|---|---|---|"]
    for name, step in steps.items():
        lines.append(f"| {name} | {_state(step)} | {step.get('seconds', '–')} |")
    return "\n".join(lines) + "\n"


def _encoders(rows: list[Row]) -> list[str]:
    head = (
        "| way | precision | batch | ms | ms a clip | rms(e)/σ_z | tokens changed | MiB | version |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        place = f"| {row['way']} | {row['precision']} | {row['batch']} |"
        if "error" in row:
            lines.append(f"{place} FAILED: {_cell(row['error'])} | | | | | {row['version']} |")
            continue
        verdict = "" if row["passed"] else " (outside the rule)"
        lines.append(
            f"{place} {row['milliseconds']} | {row['milliseconds_a_clip']} "
            f"| {row['rms_error_sigma']:.1e} | {row['changed_tokens']}{verdict} "
            f"| {row['gpu'].get('memory_mib', '–')} | {row['version']} |"
        )
    return [*lines, ""]


def _operators(rows: list[Row]) -> list[str]:
    head = "| operator | type | shape | layout | error | µs | of copy |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for row in rows:
        shape = "x".join(map(str, row["shape"]))
        layout = row.get("layout", "channels_last")
        verdict = "" if row["passed"] else " (too large)"
        lines.append(
            f"| {row['operator']} | {row['dtype']} | {shape} | {layout} "
            f"| {row['max_error']:.1e}{verdict} | {row['microseconds']} | {row['of_copy']:.0%} |"
        )
    return [*lines, ""]


def _state(step: Report) -> str:
    if "skipped" in step:
        return f"skipped: {step['skipped']}"
    return "passed" if step["passed"] else f"FAILED: {_cell(step['error'])}"


def _cell(text: str) -> str:
    return text.strip().splitlines()[-1].replace("|", "\\|")[:200] if text.strip() else "?"
