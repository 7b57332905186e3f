"""The blocks of docs/hub.md run as they stand, in order, against `hub_server`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import WRITER, serving
from runtime.magvit_process import MAIN

PAGE = (Path(__file__).parents[3] / "docs" / "hub.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"<!-- tests/export/publishing/test_hub_page\.py runs this block\. -->\n```(\w+)\n(.*?)```",
    re.S,
)


@pytest.mark.slow
def test_the_blocks_run_in_order(fixed_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(fixed_bundle, tmp_path / "bundle")
    rows = [f"{i},{x},{x * i % 3}" for i in range(3) for x in (0, 1)]
    (tmp_path / "trajectories.csv").write_text("\n".join(["id,x,y", *rows]))
    blocks = BLOCK.findall(PAGE)
    assert [language for language, _ in blocks] == ["sh", "sh", "python", "sh"]
    # What this bundle takes.
    small = "--frames 5 --height 16 --width 16 --margin 5"
    magvit = f'magvit() {{ {sys.executable} -c "{MAIN}" "$@"; }}\n'
    hf = f'hf() {{ "{Path(sys.executable).parent / "hf"}" "$@"; }}\n'
    with serving() as hub:
        for language, text in blocks:
            command = [sys.executable, "-c", text]
            if language == "sh":
                smaller = text.replace("trajectories.csv ", f"trajectories.csv {small} ")
                command = ["sh", "-e", "-c", magvit + hf + smaller]
            result = subprocess.run(
                command,
                cwd=tmp_path,
                env=hub.environment(tmp_path / "cache", WRITER),
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 0, result.stderr
            assert result.stdout
            if language == "python":
                commit = hub.repositories["me/tiny-magvit"].branches["main"]
                assert result.stdout == f"(2, 5, 8, 8) {commit}\n"
        repository = hub.repositories["me/tiny-magvit"]
        card = repository.commits[repository.branches["main"]]["README.md"].decode()
    assert "`magvit verify` compared these very files." in card
