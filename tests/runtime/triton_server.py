"""A real tritonserver, from the wheel nvidia-pytriton, on a machine without a GPU.

The wheel wants NumPy before 2: with a newer one, its Python backend answers with empty outputs. So
both lie in a folder of their own. `make test` fills build/triton, and MAGVIT_TRITON_SITE names
another one.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

SITE = Path(os.environ.get("MAGVIT_TRITON_SITE") or Path(__file__).parents[2] / "build" / "triton")
PATIENCE = 120


def why_no_server() -> str:
    """Why tritonserver can't be run here; "" if it can."""
    server = SITE / "pytriton" / "tritonserver"
    if find_spec("tritonclient") is None:
        return "tritonclient isn't installed: pip install 'tritonclient[grpc,http]'"
    if not (server / "bin" / "tritonserver").is_file():
        return f"there is no tritonserver in {SITE}: make build/triton"
    if not (server / "python_backend_stubs" / _python()).is_dir():
        return f"the wheel nvidia-pytriton has no stub for Python {_python()}"
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(map(int, version.split("."))) < (2, 35):
        return f"tritonserver needs glibc 2.35, and this is {libc or 'another libc'} {version}"
    return ""


class TritonServer:
    """A server that is up.

    Attributes:
        http, grpc: Addresses, HOST:PORT.
        process: Its process.
    """

    def __init__(self, process: subprocess.Popen[bytes], ports: dict[str, int], log: Path) -> None:
        self.process = process
        self.http, self.grpc, self._metrics = (f"localhost:{port}" for port in ports.values())
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def metrics(self) -> dict[str, float]:
        """Prometheus' lines by name and labels."""
        with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=10) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line[:1] != "#"]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def answers(self, path: str) -> bool:
        """Whether a health endpoint says yes."""
        try:
            with urllib.request.urlopen(f"http://{self.http}/{path}", timeout=10) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False

    def stop(self) -> int:
        """Sends SIGTERM, and gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@contextmanager
def running(repository: Path, folder: Path, *flags: str) -> Iterator[TritonServer]:
    """Serves a repository, and is killed at the end if it is still there.

    Args:
        repository: The model repository.
        folder: Takes the log, and the backend's files.
        flags: More of tritonserver's options.

    Raises:
        RuntimeError: It didn't start; the text is its log.
    """
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
    folder.mkdir(exist_ok=True)
    log = folder / f"{ports['http']}.log"
    command = [
        "tritonserver",
        *("--model-repository", str(repository)),
        *(f"--{name}-port={port}" for name, port in ports.items()),
        *flags,
    ]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            env=environment(folder),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    up = TritonServer(process, ports, log)
    try:
        deadline = time.monotonic() + PATIENCE
        while not up.answers("v2/health/ready"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(up.log)
            time.sleep(0.1)
        yield up
    finally:
        with suppress(ProcessLookupError):  # With its Python backends, which can outlive it.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment(folder: Path) -> dict[str, str]:
    """Variables with which `tritonserver` is found and runs.

    Args:
        folder: Takes the command, the backend's files and the Python that the backend runs.
    """
    server, backends = SITE / "pytriton" / "tritonserver", folder / "backends"
    python, command = _python_as_here(folder), folder / "bin" / "tritonserver"
    if not backends.is_dir():
        shutil.copytree(server / "backends", backends)
        stub = server / "python_backend_stubs" / _python() / "triton_python_backend_stub"
        shutil.copy(stub, backends / "python")
        command.parent.mkdir()
        command.write_text(
            f"#!/bin/sh\nexec {server}/bin/tritonserver --backend-directory {backends} "
            '--allow-gpu-metrics false "$@"\n'
        )
    # pip keeps these bits, other tools lose them.
    for file in (server / "bin" / "tritonserver", *backends.glob("*/*stub"), command):
        file.chmod(0o755)
    libraries = [str(SITE / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    places = [str(command.parent), str(python / "bin"), os.environ["PATH"]]
    return os.environ | {
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PATH": os.pathsep.join(places),
    }


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, as of now."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _python_as_here(folder: Path) -> Path:
    """An environment that imports what this process does, PYTHONPATH included.

    Triton's stub takes the `python3` that comes first on PATH, and shuts out PYTHONPATH.
    """
    place = folder / "python"
    if not place.is_dir():
        venv.create(place, symlinks=True)
        (packages,) = place.glob("lib/*/site-packages")
        (packages / "as_here.pth").write_text("\n".join([str(SITE), *filter(None, sys.path)]))
    return place


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
