"""Records of the package as text and as lines of JSON, by commands and by services."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runtime.magvit_process import MAIN, failed, magvit

from magvit_runtime import InputError
from magvit_runtime.logs import JsonFormatter, LogSetting

STYLE = ("--frames", "2", "--height", "16", "--width", "16", "--margin", "5")
UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture
def walks(tmp_path: Path) -> Path:
    path = tmp_path / "walks.csv"
    path.write_text("id,x,y\n" + "".join(f"{i},{x},{x * i}\n" for i in range(5) for x in (0, 1)))
    return path


def lines_of(text: str) -> list[dict[str, Any]]:
    """Each line on its own is JSON, with the keys of every line."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(UTC.fullmatch(line["time"]) for line in lines)
    assert all(line.keys() >= {"level", "logger", "message"} for line in lines)
    return lines


def test_what_a_run_does_is_lines_of_json(
    tiny_bundle: Path, walks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (bundle / "engines").mkdir()
    (bundle / "engines" / "old.plan").write_bytes(b"")
    (bundle / "engines" / "old.json").write_text("{}")
    monkeypatch.setenv("MAGVIT_LOG", "json,info")
    command = ("tokenize", bundle, walks, "-o", tmp_path / "tokens", *STYLE, "--part-size", 3)
    process = magvit(*command, "--json")
    assert process.returncode == 0
    assert json.loads(process.stdout)["clips"] == 5
    refused, opened, first, second, done = lines_of(process.stderr)
    assert {line["level"] for line in (refused, opened, first, second, done)} == {"info"}
    assert (refused["role"], refused["subject"]) == ("encode", "old.plan")
    assert refused["message"].startswith("old.plan isn't taken for encode: ")
    assert refused["why"] in refused["message"]
    facts = {name: opened[name] for name in ("role", "subject", "backend", "precision")}
    assert facts == {
        "role": "encode",
        "subject": "native fp32",
        "backend": "native",
        "precision": "fp32",
    }
    assert opened["logger"] == "magvit_runtime.backends.opening"
    assert opened["device"].startswith("CPU")
    assert "the native backend is the fastest" in opened["reason"]
    assert [(line["rows"], line["parts_done"]) for line in (first, second)] == [(3, 1), (2, 2)]
    assert (done["rows"], done["parts_done"], done["refused"]) == (5, 2, 0)
    again = lines_of(magvit(*command, "--resume").stderr)
    assert [line["message"] for line in again[2:]] == [
        f"{tmp_path / 'tokens'} goes on after 2 parts"
    ]


def test_a_fallback_is_a_warning_with_fields(
    tiny_bundle: Path, walks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGVIT_LOG", "json")
    monkeypatch.setenv("MAGVIT_LIBRARY_DIR", str(tmp_path))
    process = magvit("tokenize", tiny_bundle, walks, "-o", tmp_path / "tokens.npz", *STYLE)
    assert process.returncode == 0
    (line,) = lines_of(process.stderr)
    assert (line["level"], line["role"], line["subject"]) == ("warning", "encode", "native fp32")
    assert line["error"] in line["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("tokenize", "missing", "walks.csv", "-o", "tokens.npz"),  # The bundle.
        ("tokenize", "missing", "walks.csv"),  # An option.
        ("tokenise", "missing"),  # A command.
    ],
)
def test_a_failure_is_a_line_with_its_parts(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = magvit(*arguments, cwd=tmp_path)
    monkeypatch.setenv("MAGVIT_LOG", "json")
    process = magvit(*arguments, cwd=tmp_path)
    assert process.returncode == plain.returncode
    assert process.stdout == ""
    (line,) = lines_of(process.stderr)
    assert (line["level"], line["exit_code"]) == ("error", process.returncode)
    if arguments[-1] == "tokens.npz":
        assert plain.stderr == f"magvit: {line['message']}\n"
        assert line["error"] == "BundleError"
        assert line["message"].endswith(f"Fix: {line['mend']}")
    else:
        assert line["message"].strip() in " ".join(re.sub("[│─╭╮╰╯]", "", plain.stderr).split())


def test_an_error_of_ours_is_a_line_with_a_traceback(tmp_path: Path) -> None:
    script = (
        "import magvit_runtime.cli.main as main\n"
        "main.build_app = lambda _: 1 / 0\n"
        "main.main(['models'])\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "MAGVIT_LOG": "json"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert process.returncode == 1
    (line,) = lines_of(process.stderr)
    assert line["message"] == "ZeroDivisionError: division by zero"
    assert line["exception"].startswith("Traceback")


def test_a_word_that_isnt_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGVIT_LOG", "jsonl")
    line = failed(2, "models")
    assert line.startswith("MAGVIT_LOG says nothing of use: found 'jsonl', expected json, one of ")


@pytest.mark.parametrize(
    ("text", "is_json", "level"),
    [
        ("", False, None),
        ("json", True, None),
        ("debug", False, logging.DEBUG),
        ("json,info", True, logging.INFO),
        (" Error , JSON ", True, logging.ERROR),
    ],
)
def test_settings(text: str, is_json: bool, level: int | None) -> None:
    assert LogSetting.parse(text) == LogSetting(is_json, level)


@pytest.mark.parametrize("text", ["info,debug", "critical", "json;info", "1"])
def test_settings_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="MAGVIT_LOG"):
        LogSetting.parse(text)


def test_a_line_holds_anything() -> None:
    record = logging.makeLogRecord(
        {"name": "a", "levelno": 30, "levelname": "WARNING", "msg": "%s\n", "args": ("ü\udcff",)}
    )
    record.path, record.time = Path("/x"), "ours"
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert "\n" not in line
    found = json.loads(line)
    assert (found["message"], found["path"]) == ("ü\udcff\n", "/x")
    assert UTC.fullmatch(found["time"])


SERVICE = """
import logging, sys
import magvit_runtime
assert logging.getLogger().handlers == logging.getLogger("magvit_runtime").handlers == []
from magvit_runtime.logs import configure
logging.basicConfig(level="INFO", format="of the service: %(message)s")
for _ in range(2):
    configure()
from magvit_runtime import Tokenizer
Tokenizer.open(sys.argv[1]).close()
logging.info("hello")
"""


@pytest.mark.parametrize(("setting", "lines"), [("json,info", 1), ("info", 1), ("", 0)])
def test_a_service_sees_each_record_once(setting: str, lines: int, tiny_bundle: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", SERVICE, str(tiny_bundle)],
        env={**os.environ, "MAGVIT_LOG": setting},
        capture_output=True,
        text=True,
        check=True,
    )
    *ours, last = process.stderr.splitlines()
    assert last == "of the service: hello"
    assert len(ours) == lines
    assert all("encode of" in line for line in ours)


def on_a_terminal(*arguments: object) -> str:
    """What a command shows where standard error is a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while more := os.read(ours, 4096):
                shown += more
        except OSError:  # So a terminal ends.
            pass
        finally:
            os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def test_a_progress_bar_and_records_share_a_terminal(
    tiny_bundle: Path, walks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("tokenize", tiny_bundle, walks, *STYLE, "--part-size", 3)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("MAGVIT_LOG", "info")
    shown = on_a_terminal(*command, "-o", tmp_path / "text")
    assert "5/?" in shown  # How many there are isn't known before all are read.
    # A record has a line of its own: what was left of the bar is wiped before it.
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\x1b", shown)
    for part in range(2):
        name = tmp_path / "text" / f"part-00000-0000{part}.parquet"
        assert re.search(rf"[\x1b\r\n]{re.escape(str(name))} is done: \d rows\r\n", text)
    monkeypatch.setenv("MAGVIT_LOG", "json,info")
    shown = on_a_terminal(*command, "-o", tmp_path / "json")
    assert "\x1b" not in shown
    assert len(lines_of(shown)) == 4
