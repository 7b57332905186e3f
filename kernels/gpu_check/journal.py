"""gpu_check.jsonl: all facts about the steps, one line of JSON each, written at once.

    {"run": {"gpu": ..., "date": ...}}                     a run of gpu-check began
    {"step": NAME, "budget_seconds": ..., "date": ...}     a step began
    {"step": NAME, "row": {...}}                           it measured something
    {"step": NAME, "state": ..., "reason": ..., "seconds": ...}    it ended

Both reports are made from these lines, so a run that is killed loses nothing. A step that runs
again replaces its earlier results.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

State = Literal["passed", "failed", "not run"]
Line = dict[str, Any]
Report = dict[str, Any]


class Journal:
    """The file of an output folder.

    Args:
        output: The folder; it is made if it is missing.
    """

    def __init__(self, output: Path) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self._path = output / "gpu_check.jsonl"

    def add(self, line: Line) -> None:
        """Adds a line."""
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def report(self) -> Report:
        """All lines as one document: the last run's facts, and `steps` by name.

        A step has `state`, `reason`, `seconds`, `budget_seconds`, `date` and `rows`.
        """
        report: Report = {"steps": {}}
        steps: dict[str, Report] = report["steps"]
        for line in _lines(self._path):
            if "run" in line:
                report |= line["run"]
            elif "budget_seconds" in line:
                unfinished = {"state": "failed", "reason": "gpu-check ended before it did"}
                steps[line["step"]] = {**_without_name(line), **unfinished, "rows": []}
            elif "row" in line:
                steps[line["step"]]["rows"].append(line["row"])
            else:
                steps[line["step"]] |= _without_name(line)
        return report


def _lines(path: Path) -> Iterator[Line]:
    """The lines of the file, without a line that was cut off when gpu-check was killed."""
    for text in path.read_text().splitlines() if path.is_file() else ():
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            continue


def _without_name(line: Line) -> Line:
    return {key: value for key, value in line.items() if key != "step"}
