"""The wheel of `make wheel`, in Pythons that have no compiler and nothing of this checkout.

MAGVIT_WHEELS names the folder that holds it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

FOLDER = os.environ.get("MAGVIT_WHEELS")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOLDER is None, reason="MAGVIT_WHEELS is not set; `make wheel` builds one"),
]
# An exception is thrown and caught in the plugins, by the unwinder that the wheel brings.
REFUSAL = """
import numpy, tensorrt_rtx as trt
from magvit_runtime.native_libraries.lookup import plugin_library
registry = trt.get_plugin_registry()
registry.load_library(str(plugin_library()))
field = trt.PluginField("num_grups", numpy.array([1], numpy.int32), trt.PluginFieldType.INT32)
creator = registry.get_creator("GroupNorm", "1", "magvit")
fields = trt.PluginFieldCollection([field])
assert creator.create_plugin("layer", fields, trt.TensorRTPhase.BUILD) is None
"""
LIBRARIES = {
    "libmagvit_operators.so",
    "libmagvit_cuda.so",
    "libmagvit_plugins.so",
    "libmagvit_plugins_autoload.so",
}


@pytest.fixture(scope="module")
def wheel() -> Path:
    (path,) = Path(FOLDER or "").glob("*.whl")
    return path.resolve()


def interpreters(version: str) -> Iterator[Path]:
    """Those on the path, and pyenv's, whose commands may belong to none of them."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from filter(None, [Path(shutil.which(f"python{version}") or "")])
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))


def run(*command: str | Path, path: Path) -> str:
    """Runs a command that finds programs in one folder only."""
    environment = {"PATH": str(path), "HOME": os.environ["HOME"]}
    for name in ("PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT"):
        if name in os.environ:
            environment[name] = os.environ[name]
    result = subprocess.run(
        [str(part) for part in command],
        env=environment,
        cwd=path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def works(python: Path) -> bool:
    answer = subprocess.run([python, "-c", "import venv"], capture_output=True, check=False)
    return answer.returncode == 0


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_any_python_runs_it(version: str, wheel: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    python = next(filter(works, interpreters(version)), None)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    scripts = tmp_path / "venv" / "bin"
    assert shutil.which("cc", path=str(scripts)) is None
    run(scripts / "pip", "install", "--quiet", f"{wheel}[rtx]", path=scripts)

    magvit = scripts / "magvit"
    rows = [f"{path},{x},{x * path % 7}" for path in range(3) for x in range(12)]
    (tmp_path / "paths.csv").write_text("\n".join(["id,x,y", *rows]), encoding="utf-8")
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    ids = tmp_path / "ids.npz"
    told = run(
        magvit, "tokenize", bundle, tmp_path / "paths.csv", "-o", ids, "--json", path=scripts
    )
    assert json.loads(told)
    run(magvit, "doctor", bundle, path=scripts)
    # Ids are those that this checkout computes.
    compare = (
        "import numpy, sys\n"
        "ours, theirs = (numpy.load(path) for path in sys.argv[1:])\n"
        "assert (ours['tokens'] == theirs['tokens']).all() and ours['tokens'].size\n"
    )
    here = tmp_path / "here.npz"
    command = "from magvit_runtime.cli.main import main; main()"
    arguments = ["tokenize", bundle, tmp_path / "paths.csv", "-o", here, "--backend", "native"]
    subprocess.run([sys.executable, "-c", command, *map(str, arguments)], check=True)
    run(scripts / "python", "-c", compare, ids, here, path=scripts)

    run(scripts / "python", "-c", REFUSAL, path=scripts)
    built = run(
        *(magvit, "build", bundle, "--flavour", "tensorrt-rtx", "--precision", "fp32"),
        *("--profile", "1/1/1", "--frames", "5", "--height", "32", "--width", "32", "--json"),
        path=scripts,
    )
    assert json.loads(built)
    (sidecar,) = (bundle / "engines").glob("*.json")
    plugins = json.loads(sidecar.read_text())["plugin_layers"]
    assert plugins == {"GroupNormSiLU": 7, "LFQ": 1}


def test_it_is_for_all_pythons_and_glibc_2_28(wheel: Path, tmp_path: Path) -> None:
    assert re.search(r"-py3-none-manylinux_2_28_x86_64\.whl$", wheel.name)
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".so")]
        archive.extractall(tmp_path, names)
    assert {Path(name).name for name in names} == LIBRARIES
    for name in names:
        table = subprocess.run(
            ["objdump", "-T", tmp_path / name], capture_output=True, text=True, check=True
        ).stdout
        versions = {
            tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", table)
        }
        assert versions
        assert max(versions) <= (2, 28)
        # auditwheel doesn't see symbols without a version, which no glibc of 2.28 has.
        unversioned = re.findall(r"\*UND\*\s+\S+\s{2,}(_\w+)$", table, re.M)
        assert set(unversioned) <= {"__cxa_pure_virtual"}, name
