"""README's examples run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from magvit_export.libras import load_libras, write_libras_csv

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"<!-- tests/test_readme\.py runs this block\. -->\n```(\w+)\n(.*?)```", re.S)


@pytest.mark.slow
def test_the_examples_run_in_order(tmp_path: Path) -> None:
    """The shell block makes the bundle that the Python block opens."""
    write_libras_csv(tmp_path / "trajectories.csv", load_libras().spread(30))
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    assert [language for language, _ in blocks] == ["sh", "python"]
    scripts = str(Path(sys.executable).parent)
    for language, text in blocks:
        command = ["sh", "-e", "-c", f'PATH="{scripts}:$PATH"\n{text}']
        if language == "python":
            command = [sys.executable, "-c", text]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert result.stdout


def test_the_two_commands_are_make_targets() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    commands = re.findall(r"^make (\w+) ", readme, re.M)
    assert commands == ["demo", "test"]
    for target in commands:
        assert f"\n{target}: " in makefile
