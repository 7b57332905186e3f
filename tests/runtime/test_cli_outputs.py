"""No command writes over a file that it reads, whatever the two are called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runtime.magvit_process import MAIN, done_json, failed, magvit

from magvit_runtime.results.token_files import read_tokens

STYLE = ("--frames", "5", "--height", "32", "--width", "32")


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle, and trajectories under every name that leads to them."""
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    source = tmp_path / "walk.csv"
    source.write_text("id,x,y\na,0,0\na,1,1\nb,0,1\nb,1,0\n")
    (tmp_path / "hard.csv").hardlink_to(source)
    (tmp_path / "link.npy").symlink_to("walk.csv")
    (tmp_path / "walk.npy.csv").symlink_to("walk.csv")
    (tmp_path / "hard.npz").hardlink_to(source)
    (tmp_path / "page.html").hardlink_to(tmp_path / "bundle" / "bundle.json")
    return tmp_path


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "command",
    [
        "render walk.csv -o link.npy",
        "render walk.csv -o walk.npy",
        "tokenize bundle walk.csv -o hard.npz",
        "classify bundle walk.csv -o walk.csv",
        "classify bundle walk.csv -o ./bundle/../hard.csv",
        "classify bundle walk.csv -o bundle/encode.fp32.data",
        "bench bundle --output bundle/bundle.json",
        "bench bundle --report page.html",
        "verify bundle --report page.html",
        "verify bundle --clips walk.csv --report hard.csv",
        "export trajectory-small --weights seeded --config bundle/bundle.json -o bundle",
        "export trajectory-small --weights bundle/encode.fp32.data -o bundle",
        "train classifier bundle bundle/bundle.json",
    ],
)
def test_an_output_that_is_an_input_is_refused(folder: Path, command: str) -> None:
    before = content(folder)
    line = failed(2, *command.split(), cwd=folder)
    assert ", which is read. Fix: give the output another name" in line
    assert content(folder) == before


def test_two_outputs_of_one_name_are_refused(folder: Path) -> None:
    line = failed(2, *["bench", "bundle", "--output", "new", "--report", "./new"], cwd=folder)
    assert line == "new and new would be one file. Fix: give each output a name of its own"


def test_an_old_output_is_replaced(folder: Path) -> None:
    (folder / "clips.npy").write_text("old")
    (folder / "clips.npy.csv").write_text("old")
    facts = done_json("render", "walk.csv", "-o", "clips.npy", *STYLE, cwd=folder)
    assert facts["table"] == "clips.npy.csv"
    assert np.load(folder / "clips.npy").shape == (2, 5, 32, 32, 3)
    assert (folder / "clips.npy.csv").read_text() == "row,id,label\n0,a,\n1,b,\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", [b"caf\xe9 \xff", "два\nряда".encode()], ids=["bytes", "lines"])
@pytest.mark.parametrize("backend", ["native", "onnxruntime"])
def test_any_file_name_will_do(folder: Path, name: bytes, backend: str) -> None:
    odd = os.fsdecode(name)
    (folder / "bundle").rename(folder / f"bundle {odd}")
    (folder / "walk.csv").rename(folder / f"{odd}.csv")
    for suffix in (".npz", ".parquet"):
        output = f"{odd}{suffix}"
        facts = done_json(
            *("tokenize", f"bundle {odd}", f"{odd}.csv", "-o", output, "--backend", backend),
            *STYLE,
            cwd=folder,
        )
        assert facts["output"] == output
        assert read_tokens(folder / output).ids == ("a", "b")


ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin": {"PYTHONIOENCODING": "latin-1"},
}


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_result_is_lost_for_the_terminals_encoding(
    folder: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENCODINGS[encoding].items():
        monkeypatch.setenv(name, value)
    small = "--repetitions 1 --rounds 1 --inputs 1 --workers 0 --backend native --output Ж.json"
    process = magvit("bench", "bundle", *small.split(), cwd=folder)
    assert (process.returncode, process.stderr) == (0, "")
    assert (folder / "Ж.json").read_text(encoding="utf-8").startswith("{")
    (folder / "walk.csv").rename(folder / "Ж.csv")
    facts = done_json("render", "Ж.csv", "-o", "Ж.npy", *STYLE, cwd=folder)
    assert os.fsencode(facts["output"]) == "Ж.npy".encode() or facts["output"] == "Ж.npy"


@pytest.mark.parametrize("variable", ["HOME", "everything"])
def test_a_read_only_bundle_without_a_home(folder: Path, variable: str) -> None:
    """As in a container's image."""
    environment = {} if variable == "everything" else {"PATH": os.environ["PATH"]}
    if "MAGVIT_LIBRARY_DIR" in os.environ:
        environment["MAGVIT_LIBRARY_DIR"] = os.environ["MAGVIT_LIBRARY_DIR"]
    (folder / "bundle").chmod(0o555)
    for arguments in (
        ("tokenize", "bundle", "walk.csv", "-o", "t.npz", *STYLE),
        ("doctor", "bundle"),
    ):
        process = subprocess.run(
            [sys.executable, "-c", MAIN, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (process.returncode, process.stderr) == (0, "")
