"""The lowest versions that pyproject.toml allows: they install, and what they are for runs.

uv picks them from pyproject.toml itself, so there is no list that could grow old. Packages that
aren't named there are the newest that fit.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from runtime.magvit_process import MAIN
from seeded_checkpoints import TINY
from test_extras import MAIN_COMMANDS, OPTIONAL, PROJECT, STYLE, inputs

from magvit_runtime.results.token_files import read_tokens

find_uv_bin = pytest.importorskip("uv", reason="the extra [dev]").find_uv_bin
__all__ = ["inputs"]  # A fixture.
FOLDER = os.environ.get("MAGVIT_WHEELS")
pytestmark = pytest.mark.slow
needs_wheel = pytest.mark.skipif(
    FOLDER is None, reason="MAGVIT_WHEELS is not set; `make wheel` builds one"
)
LOWEST = ("--resolution", "lowest-direct", "--only-binary", ":all:")
# On PyPI these are archives that, as they are built, fetch the wheels.
WITHOUT_WHEELS = {"tensorrt", "tensorrt-rtx-cu13"}
NEED_A_GPU = ("cuda", "native-cuda", "rtx", "tensorrt")
# transformers, and torch's builds for GPUs, need newer versions of packages than other extras do.
APART = (("features",), NEED_A_GPU)
TOGETHER = tuple(extra for extra in OPTIONAL if extra not in {"dev", "features", *NEED_A_GPU})
# What has a command to run on a CPU.
ON_A_CPU = sorted({*MAIN_COMMANDS, "features"} - {"", "rtx"})


def asked(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for."""
    optional = [text for extra in extras if extra for text in OPTIONAL[extra]]
    found = [Requirement(text) for text in [*PROJECT["dependencies"], *optional]]
    return [one for one in found if one.name not in WITHOUT_WHEELS]


def uv(*arguments: object, requirements: list[Requirement]) -> str:
    """Standard output of `uv pip`, which uses indexes and certificates that pip is told of."""
    environment = dict(os.environ)
    for ours, theirs in (("PIP_CERT", "SSL_CERT_FILE"), ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")):
        if ours in environment:
            environment[theirs] = environment[ours]
    if links := environment.get("PIP_FIND_LINKS"):
        environment["UV_FIND_LINKS"] = ",".join(links.split())
    done = subprocess.run(
        [find_uv_bin(), "pip", *map(str, arguments)],
        env=environment,
        input="\n".join(map(str, requirements)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def above_their_bounds(requirements: list[Requirement], versions: dict[str, str]) -> list[str]:
    """Those that came in a later version than the lowest that is allowed."""
    found = []
    for requirement in requirements:
        (bound,) = (one.version for one in requirement.specifier)
        got = versions[canonicalize_name(requirement.name)]
        if Version(Version(got).public) != Version(bound):
            found.append(f"{requirement}, but {got} is the lowest that fits")
    return found


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("extras", [TOGETHER, *APART], ids=["most", "features", "gpu"])
def test_every_python_can_install_each_bound_itself(extras: Sequence[str], python: str) -> None:
    requirements = asked(*extras)
    told = uv(
        *("compile", "-", *LOWEST, "--python-version", python),
        *("--python-platform", "x86_64-manylinux_2_28", "--no-header", "--no-annotate"),
        requirements=requirements,
    )
    versions = dict(line.split(" ")[0].split("==") for line in told.splitlines())
    assert above_their_bounds(requirements, versions) == []


def environment(folder: Path, *extras: str) -> Path:
    """Installs extras in their lowest versions, and the wheel.

    Where torch is a build for CPUs, the same is taken: another would bring GBs of CUDA.

    Returns:
        The folder of the commands.
    """
    subprocess.run(
        [find_uv_bin(), "venv", "--quiet", "--python", sys.executable, folder], check=True
    )
    python = ("--python", folder / "bin" / "python")
    constraints = folder / "constraints.txt"
    torch = version("torch")
    constraints.write_text(f"torch=={torch}" if torch.endswith("+cpu") else "")
    given = ("-r", "-", "--constraint", constraints, *LOWEST)
    uv("install", *given, *python, requirements=asked(*extras))
    (wheel,) = Path(FOLDER or "").glob("*.whl")
    uv("install", "--no-deps", wheel.resolve(), *python, requirements=[])
    uv("check", *python, requirements=[])
    return folder / "bin"


def magvit(scripts: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command that the wheel has installed, with its own libraries."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "MAGVIT_LIBRARY_DIR"}
    }
    return subprocess.run(
        [str(scripts / "magvit"), *map(str, arguments)],
        env=kept,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_wheel
def test_the_whole_way_runs(tmp_path: Path) -> None:
    """Also, the tokens are those that the versions here make."""
    extras = ("export", "cpu", "data")
    scripts = environment(tmp_path / "venv", *extras)
    listed = uv("list", "--format", "json", "--python", scripts / "python", requirements=[])
    versions = {canonicalize_name(row["name"]): row["version"] for row in json.loads(listed)}
    assert above_their_bounds(asked(*extras), versions) == []

    rows = [
        f"{path},{x},{x * (path % 2)},{'flat' if path % 2 else 'steep'}"
        for path in range(8)
        for x in range(12)
    ]
    (tmp_path / "paths.csv").write_text("\n".join(["id,x,y,label", *rows]), encoding="utf-8")
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(TINY))
    for command in (
        "export trajectory-small --weights seeded --config config.json -o bundle",
        f"tokenize bundle paths.csv -o tokens.parquet {' '.join(STYLE)}",
        "train classifier bundle tokens.parquet",
        f"classify bundle paths.csv -o predictions.csv {' '.join(STYLE)}",
        f"classify bundle paths.csv -o native.csv --backend native --way tokens {' '.join(STYLE)}",
    ):
        done = magvit(scripts, *command.split(), "--json", cwd=tmp_path)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert json.loads(done.stdout)
    predictions = (tmp_path / "predictions.csv").read_text().splitlines()
    assert len(predictions) == 1 + 8
    here = subprocess.run(
        [sys.executable, "-c", MAIN, "tokenize", "bundle", "paths.csv", "-o", "here.npz", *STYLE],
        cwd=tmp_path,
        check=False,
    )
    assert here.returncode == 0
    theirs, ours = (read_tokens(tmp_path / name).tokens for name in ("tokens.parquet", "here.npz"))
    np.testing.assert_array_equal(theirs, ours)


@pytest.mark.nightly
@needs_wheel
def test_what_each_extra_is_for_runs_with_all_of_them_installed(
    inputs: Path, clip_folder: Path, tmp_path: Path
) -> None:
    scripts = environment(tmp_path / "venv", *ON_A_CPU)
    commands = {extra: command for extra, (_, command) in MAIN_COMMANDS.items()}
    commands |= {"features": f"export clip-vit-base-patch32 --weights {clip_folder} -o out"}
    failed = {}
    for extra in ON_A_CPU:
        folder = shutil.copytree(inputs, tmp_path / extra)
        done = magvit(scripts, *commands[extra].split(), "--json", cwd=folder)
        if done.returncode:
            failed[extra] = done.stderr
    assert failed == {}
