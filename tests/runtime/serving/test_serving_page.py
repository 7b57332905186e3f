"""The blocks of docs/serving.md run as they stand, in order."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runtime.cli.test_killed_runs import content

from magvit_runtime.results.token_files import read_tokens

PAGE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"<!-- tests/runtime/serving/test_serving_page\.py runs this block\. -->\n"
    r"```(\w+)\n(.*?)```",
    re.S,
)


@pytest.mark.slow
@pytest.mark.alone
def test_the_blocks_run_in_order(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra [ray]")
    # Else the tests beside this one come first.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (tmp_path / "trajectories").mkdir()
    for name in "ab":
        rows = [
            f"{i},{x},{x * i % 3},{'up' if i % 2 else 'down'}" for i in range(6) for x in (0, 1)
        ]
        text = "\n".join(["id,x,y,label", *rows])
        (tmp_path / "trajectories" / f"{name}.csv").write_text(text)
    blocks = BLOCK.findall(PAGE)
    assert [language for language, _ in blocks] == ["sh", "sh", "sh", "sh", "python"]
    # Clips of the usual size would take the tiny model minutes.
    small = "--frames 2 --height 16 --width 16 --margin 5"
    program = f'{sys.executable} -c "from magvit_runtime.cli.main import main; main()"'
    magvit = f'magvit() {{ {program} "$@"; }}\n'
    for language, text in blocks:
        command = [sys.executable, "-c", text]
        if language == "sh":
            smaller = re.sub(r"(trajectories/ )", rf"\1{small} ", text)
            command = ["sh", "-e", "-c", magvit + smaller]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert result.stdout
    assert result.stdout == "(8, 5, 16, 16)\n"
    assert content(tmp_path / "raytokens") == content(tmp_path / "tokens")
    assert len(read_tokens(tmp_path / "shared").ids) == 12
