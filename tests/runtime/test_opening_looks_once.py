"""Opening a bundle looks at the machine, the bundle and its engines once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
from known_profiles import profile_of
from runtime.stand_in_machine import StandInGpu, StandInMachine, environment

from magvit_runtime import open_bundle
from magvit_runtime.bundle.engine_records import ENGINE_SCHEMA_VERSION, EngineKey, EngineRecord
from magvit_runtime.bundle.manifest import FileRecord
from magvit_runtime.bundle.reading import graph_sha256
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.native_libraries.lookup import PLUGIN_INTERFACE, operators_library

CLIP = (3, 16, 16, 3)
L4 = StandInGpu("NVIDIA L4", "8.9", "GPU-00000000-0000-0000-0000-0000000000a4")
LIBRARIES = ("libmagvit_operators.so", "libmagvit_cuda.so", "libmagvit_plugins.so")

# Prints which backend was opened, and every file that opening it opened.
OPENED = """
import json, sys
from magvit_runtime import Tokenizer
files = []
sys.addaudithook(lambda event, about: files.append(str(about[0])) if event == "open" else None)
with Tokenizer.open(sys.argv[1]) as tokenizer:
    print(json.dumps([tokenizer.capabilities.backend, files]))
"""


def write_engines(path: Path) -> None:
    """Two that fit an L4 and one that doesn't."""
    bundle = open_bundle(path)
    (path / "engines").mkdir()
    for gpu, sm in (("NVIDIA L4", "8.9"), (None, "8.9"), ("NVIDIA H100 80GB HBM3", "9.0")):
        key = EngineKey(
            role="encode",
            flavour="tensorrt",
            version="10.14.1",
            cuda="13",
            sms=(sm,),
            gpu=gpu,
            precision="fp32",
            profiles=(profile_of(1, 2, 4, CLIP),),
            onnx_sha256=graph_sha256(bundle, bundle.graphs("encode")["fp32"]),
            plugin_interface=PLUGIN_INTERFACE,
            options={},
        )
        plan = path / "engines" / f"{key.name}.plan"
        plan.write_text(json.dumps({"profiles": [[[n, *CLIP] for n in (1, 2, 4)]]}))
        file = FileRecord(plan.stat().st_size, file_sha256(plan))
        record = EngineRecord(ENGINE_SCHEMA_VERSION, key, file, (), {}, None, 1.0, "here", "today")
        plan.with_suffix(".json").write_bytes(msgspec.json.encode(record))


def open_on(machine: StandInMachine, bundle: Path, folder: Path) -> tuple[str, Counter[str], int]:
    """The backend, how often each of the bundle's files was opened, and the driver's tool run."""
    operators = operators_library()
    assert operators is not None
    process = subprocess.run(
        [sys.executable, "-c", OPENED, str(bundle)],
        env=environment(machine, operators, folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    backend, files = json.loads(process.stdout)
    of_bundle = Counter(file.removeprefix(f"{bundle}/") for file in files if str(bundle) in file)
    asked = folder / "bin" / "asked"
    return backend, of_bundle, len(asked.read_text().split()) if asked.is_file() else 0


def test_an_engine(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    write_engines(bundle)
    packages = {"cuda-bindings": "13.0", "tensorrt-cu13": "10.14.1"}
    machine = StandInMachine(gpus=(L4,), packages=packages, libraries=LIBRARIES)
    backend, opened, asked = open_on(machine, bundle, tmp_path / "machine")
    assert backend == "tensorrt"
    records = [
        "bundle.json",
        *(f"engines/{one.name}" for one in (bundle / "engines").glob("*.json")),
    ]
    assert len(records) == 4
    assert {name: opened[name] for name in records} == dict.fromkeys(records, 1)
    assert sum(name.endswith(".plan") for name in opened) == 1
    assert not any(name.endswith((".onnx", ".data")) for name in opened)
    assert asked == 1


def test_a_graph_on_a_cpu(tiny_bundle: Path, tmp_path: Path) -> None:
    """If nothing could use a GPU, the driver's tool isn't run."""
    machine = StandInMachine(gpus=(L4,))
    backend, opened, asked = open_on(machine, tiny_bundle, tmp_path / "machine")
    assert backend == "native"
    assert opened["bundle.json"] == 1
    assert asked == 0
