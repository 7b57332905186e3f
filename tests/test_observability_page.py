"""The blocks of docs/observability.md run as they stand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "observability.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"<!-- tests/test_observability_page\.py runs this block\. -->\n```(\w+)\n(.*?)```", re.S
)


def test_the_blocks_show_what_the_page_says(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra [dev]")
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (tmp_path / "trajectories.csv").write_text("id,x,y\na,0,0\na,1,1\n")
    (_, shell), (_, service), (_, traced) = BLOCK.findall(PAGE)
    program = f'{sys.executable} -c "from magvit_runtime.cli.main import main; main()"'
    # Clips of the usual size would take the tiny model longer.
    small = shell.replace("bundle ", "bundle --frames 2 --height 16 --width 16 --margin 5 ", 1)
    script = f'magvit() {{ {program} "$@"; }}\n{small}'
    subprocess.run(["sh", "-e", "-c", script], cwd=tmp_path, capture_output=True, check=True)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    shown = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.S)[1])
    assert [lines[0].keys() == shown.keys(), lines[0]["reason"]] == [True, shown["reason"]]

    def python(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", text],
            cwd=tmp_path,
            env={**os.environ, "MAGVIT_LOG": "info"},
            capture_output=True,
            text=True,
            check=True,
        )

    said = python(service)
    assert said.stdout.strip() in said.stderr
    assert said.stderr.startswith("encode of bundle runs as native fp32 on CPU")
    names = re.findall(r'"name": "(magvit\.\w+)"', python(traced).stdout)
    assert names == ["magvit.open", "magvit.run", "magvit.run", "magvit.tokenize"]
    spans = re.search(r"## Traces\n(.*?)\n## ", PAGE, re.S)[1]
    assert all(f"`{name}`" in spans for name in names)
