"""README's examples run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from magvit_export.training.libras import load_libras, write_libras_csv

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"<!-- tests/test_readme\.py runs this block\. -->\n```(\w+)\n(.*?)```", re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("readme")
    write_libras_csv(path / "trajectories.csv", load_libras().spread(30))
    return path


@pytest.mark.parametrize(
    ("language", "text"), BLOCK.findall((ROOT / "README.md").read_text()), ids=["shell", "python"]
)
def test_example(folder: Path, language: str, text: str) -> None:
    """The shell block makes the bundle that the Python block opens."""
    scripts = str(Path(sys.executable).parent)
    command = ["sh", "-e", "-c", f'PATH="{scripts}:$PATH"\n{text}']
    if language == "python":
        command = [sys.executable, "-c", text]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_the_two_commands_are_make_targets() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    commands = re.findall(r"^make (\w+) ", readme, re.M)
    assert commands == ["demo", "test"]
    for target in commands:
        assert f"\n{target}: " in makefile
