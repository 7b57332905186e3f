"""The images and the EC2 script, as far as they can be tried without Docker, GPU and AWS."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from runtime.magvit_process import MAIN

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "examples" / "docker").glob("*.Dockerfile"))
USER_DATA = ROOT / "examples" / "ec2" / "user-data.sh"
PAGE = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
WHEELS = os.environ.get("MAGVIT_WHEELS")


def tool(name: str) -> str:
    """A program of the extra [dev]."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{name} isn't installed: pip install 'magvit-runtime[dev]'")
    return found


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile in their order, each with the rest of its lines."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    parts = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(name, rest.strip()) for name, rest in parts]


def last(path: Path, name: str) -> str:
    return [rest for instruction, rest in instructions(path) if instruction == name][-1]


def health_check(path: Path) -> list[str]:
    return list(json.loads(last(path, "HEALTHCHECK").split(" CMD ")[1]))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_a_linter_finds_nothing(path: Path) -> None:
    command = [tool("hadolint"), "--failure-threshold", "style", str(path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, ""), found.stderr


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_images_keep_the_rules_of_the_house(path: Path) -> None:
    found = instructions(path)
    bases = [rest.split()[0] for name, rest in found if name == "FROM"]
    assert len(bases) == 2  # What installs stays behind.
    for base in bases:
        assert re.fullmatch(r"[\w./-]+:\d+[\w.-]*\d[\w.-]*", base), "a tag that says its version"
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last(path, "USER"))  # By number, as Kubernetes asks.
    names = [name for name, _ in found]
    assert {"HEALTHCHECK", "USER"} <= set(names[-names[::-1].index("FROM") :])
    for name in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(last(path, name)), list)  # Signals reach the program itself.
    for _, rest in found:
        assert "pip install" not in rest or "--no-cache-dir" in rest
        assert "apt-get" not in rest or "rm -rf /var/lib/apt/lists" in rest
    labels = last(path, "LABEL")
    for key in ("title", "description", "licenses", "version"):
        assert f"org.opencontainers.image.{key}=" in labels
    assert f"FROM {bases[0]} AS installation" in path.read_text()
    assert path.name in PAGE
    assert bases[0] in PAGE


def test_the_cpu_image_is_healthy_while_the_bundle_gives_what_it_must(
    fixed_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(fixed_bundle, tmp_path / "bundle")
    program, *arguments = health_check(ROOT / "examples" / "docker" / "cpu.Dockerfile")
    assert program == "python"

    def health() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "MAGVIT_BUNDLE": str(bundle)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert "magvit verify" in health().stderr  # What makes the clip that it runs.
    verify = [sys.executable, "-c", MAIN, "verify", str(bundle), "--against", "fp32"]
    subprocess.run(verify, check=True, capture_output=True)
    healthy = health()
    assert healthy.returncode == 0, healthy.stderr
    (bundle / "encode.fp32.data").write_bytes(b"damaged")
    assert health().returncode == 1


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that answers to all with a status; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/v2/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (400, 1)])
def test_the_tensorrt_image_is_healthy_while_triton_is_ready(status: int, code: int) -> None:
    program, option, script = health_check(ROOT / "examples" / "docker" / "tensorrt.Dockerfile")
    assert (program, option) == ("python3", "-c")
    with answering(status) as port:
        command = [sys.executable, "-c", script.replace(":8000/", f":{port}/")]
        done = subprocess.run(
            command,
            env={**os.environ, "no_proxy": "127.0.0.1"},
            capture_output=True,
            check=False,
        )
    assert done.returncode == code


@pytest.mark.slow
@pytest.mark.skipif(WHEELS is None, reason="MAGVIT_WHEELS is not set; `make wheel` builds one")
def test_the_cpu_images_installation_works(tmp_path: Path) -> None:
    """Its own commands, with folders here in the place of the image's."""
    path = ROOT / "examples" / "docker" / "cpu.Dockerfile"
    (text,) = (rest for name, rest in instructions(path) if name == "RUN" and "pip" in rest)
    extras = re.search(r"ARG EXTRAS=(.+)", path.read_text())
    assert extras is not None
    script = text.replace("/wheels/", f"{Path(WHEELS or '').resolve()}/")
    script = script.replace("/opt/magvit", str(tmp_path / "magvit"))
    script = script.replace("python -m", f"{shlex.quote(sys.executable)} -m")
    command = ["sh", "-eu", "-c", f"EXTRAS={extras[1]}\n{script}"]
    subprocess.run(command, check=True, capture_output=True)
    magvit = tmp_path / "magvit" / "bin" / "magvit"
    environment = {"PATH": str(magvit.parent), "HOME": str(tmp_path)}
    done = subprocess.run(
        [magvit, "--json", "doctor"], env=environment, capture_output=True, text=True, check=True
    )
    facts = json.loads(done.stdout)
    assert facts["native_backend"].startswith("CPU, ")
    assert facts["onnxruntime_providers"]


def test_shellcheck_finds_nothing_in_the_ec2_script() -> None:
    command = [tool("shellcheck"), "--enable=quote-safe-variables", str(USER_DATA)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


STAND_IN = """#!/bin/bash
echo "$(basename "$0") $*" >> "$ASKED"
[[ "$(basename "$0") $*" != *"$FAILS"* ]]
"""


def boot(folder: Path, bundle: str, fails: str = "nothing") -> tuple[int, str, list[str]]:
    """Runs the script with stand-ins for what it calls: exit code, output, what it asked for."""
    programs = folder / "programs"
    programs.mkdir()
    for name in ("aws", "chown", "curl", "docker", "nvidia-smi"):
        (programs / name).write_text(STAND_IN)
        (programs / name).chmod(0o755)
    asked = folder / "asked"
    process = subprocess.run(
        ["bash", str(USER_DATA)],
        env={
            "PATH": f"{programs}:/usr/bin:/bin",
            "ASKED": str(asked),
            "FAILS": fails,
            "BUNDLE": bundle,
            "ROOT": str(folder / "root"),
            "PAUSE": "0",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return process.returncode, process.stdout + process.stderr, asked.read_text().splitlines()


def steps(asked: list[str]) -> list[str]:
    """What was asked for, in a word each."""
    words = {
        "s3 sync": "fetch",
        "hf ": "fetch",
        " build ": "build",
        " triton ": "repository",
        "--detach": "serve",
    }
    return [step for line in asked for word, step in words.items() if word in line]


@pytest.mark.parametrize("bundle", ["s3://mine/bundle", "hf://me/model@v1"])
def test_the_machine_fetches_builds_and_serves_in_this_order(bundle: str, tmp_path: Path) -> None:
    code, output, asked = boot(tmp_path, bundle)
    assert code == 0, output
    assert output.splitlines()[-1] == f"magvit serves {bundle}"
    assert steps(asked) == ["fetch", "build", "repository", "serve"]
    if bundle.startswith("hf"):
        (fetch,) = (line for line in asked if "--entrypoint hf " in line)
        assert fetch.endswith("download me/model --revision v1 --local-dir /work/bundle")
    (serve,) = (line for line in asked if "--detach" in line)
    assert f"-v {tmp_path}/root/repository:/models:ro" in serve


@pytest.mark.parametrize(
    ("fails", "done"),
    [
        ("nvidia-smi", []),
        ("s3 sync", ["fetch"]),
        ("magvit:tensorrt build", ["fetch", "build"]),
        ("magvit:tensorrt triton", ["fetch", "build", "repository"]),
        ("health/ready", ["fetch", "build", "repository", "serve"]),
    ],
)
def test_the_script_stops_where_a_step_fails(fails: str, done: list[str], tmp_path: Path) -> None:
    code, output, asked = boot(tmp_path, "s3://mine/bundle", fails)
    assert code != 0
    assert "magvit serves" not in output
    assert steps(asked) == done


def test_a_bundle_from_elsewhere_is_named(tmp_path: Path) -> None:
    code, output, asked = boot(tmp_path, "ftp://mine/bundle")
    assert code == 1
    assert "BUNDLE is ftp://mine/bundle; expected s3://BUCKET/FOLDER" in output
    assert steps(asked) == []


def test_the_commands_of_images_script_and_page_are_magvits() -> None:
    texts = [PAGE, *(path.read_text() for path in (*DOCKERFILES, USER_DATA))]
    named = {
        name
        for text in texts
        for name in re.findall(
            r"(?:magvit:(?:cpu|tensorrt)(?:\s|\\|#)+|in_image (?:magvit )?)([a-z]+) ", text
        )
    }
    assert {"tokenize", "doctor", "build", "triton"} <= named
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert named - project["entry-points"]["magvit.commands"].keys() <= {"hf"}
