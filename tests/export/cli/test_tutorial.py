"""The blocks of docs/tutorial.md run as they stand, in order."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"<!-- tests/export/cli/test_tutorial\.py runs this block\. -->\n```sh\n(.*?)```", re.S
)
CLASSES = {"linear", "circular", "helical", "parabolic"}


@pytest.mark.slow
def test_the_blocks_give_a_classifier(tmp_path: Path) -> None:
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == 3
    program = f'{sys.executable} -c "from magvit_runtime.cli.main import main; main()"'
    magvit = f'magvit() {{ {program} "$@"; }}\n'
    for text in blocks:
        command = ["sh", "-e", "-c", magvit + text]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == CLASSES
    right = sum(row["label"] == row["predicted"] for row in rows)
    # Chance is 25; the page says 93.
    assert (len(rows), right) == (100, pytest.approx(93, abs=7))
    # What the page quotes is what was printed, but for what another machine's rounding changes.
    assert "100 clips -> predictions.csv" in PAGE
    assert "100 clips -> predictions.csv" in result.stdout
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("sheet.png", "classes.html"))
