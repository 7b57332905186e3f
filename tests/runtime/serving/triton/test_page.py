"""The blocks on Triton of docs/serving.md run as they stand, in order, on a real server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from runtime.triton_server import environment, free_ports, why_no_server

PAGE = (Path(__file__).parents[4] / "docs" / "serving.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"<!-- tests/runtime/serving/triton/test_page\.py runs this block\. -->\n"
    r"```(\w+)\n(.*?)```",
    re.S,
)
PROGRAM = f'{sys.executable} -c "from magvit_runtime.cli.main import main; main()"'


@pytest.mark.slow
@pytest.mark.skipif(why_no_server() != "", reason=why_no_server())
def test_from_a_bundle_to_a_clients_answer(
    served_bundle: Path, server_folder: Path, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on the PATH")
    shutil.copytree(served_bundle, tmp_path / "bundle")
    (_, write), (_, start), (_, ask) = BLOCK.findall(PAGE)
    http, grpc, metrics = free_ports(3)
    # Clips of the usual size would take the tiny model minutes, and ports may be others'.
    changes = {
        "-o repository": "-o repository --frames 3 --height 16 --width 24",
        "tritonserver ": f"tritonserver --http-port {http} --grpc-port {grpc} "
        f"--metrics-port {metrics} ",
        "localhost:8000": f"localhost:{http}",
        "localhost:8001": f"localhost:{grpc}",
        "17, 128, 128": "3, 16, 24",
    }
    for old, new in changes.items():
        assert any(old in text for text in (write, start, ask))
        write, start, ask = (text.replace(old, new) for text in (write, start, ask))
    shell = f'magvit() {{ {PROGRAM} "$@"; }}\n'
    variables = environment(server_folder)

    def run(*command: str) -> str:
        log = tmp_path / "log.txt"
        # A file, since the server keeps the output open.
        with log.open("w") as file:
            done = subprocess.run(
                command, cwd=tmp_path, env=variables, stdout=file, stderr=file, check=False
            )
        assert done.returncode == 0, log.read_text(encoding="utf-8")
        return log.read_text(encoding="utf-8")

    assert "clip_classifier: python" in run("sh", "-e", "-c", shell + write)
    run("sh", "-e", "-c", start + "echo $! > server.pid\n")
    server = int((tmp_path / "server.pid").read_text())
    try:
        assert run(sys.executable, "-c", ask) in ("kreis\n", "größe\n")
    finally:
        os.kill(server, signal.SIGTERM)
        psutil.Process(server).wait(60)
