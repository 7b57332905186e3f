"""What bundles do on machines of every kind, held against behaviour_table.json beside this file.

The table is there to be read. If a change alters it on purpose, write it again with

    MAGVIT_WRITE_TABLE=1 python -m pytest tests/runtime/test_behaviour_table.py

and review the difference.

The machines are stand-ins (`stand_in_machine`). The bundles are tiny and seeded. Values that differ
from one real machine to another (digests, versions, instruction sets, measured errors) are written
as a word in capitals.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from known_profiles import profile_of
from runtime.stand_in_machine import StandInGpu, StandInMachine, environment
from seeded_checkpoints import TINY

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_export.training.classifier import TrajectoryClassifier
from magvit_export.training.classifier_export import export_classifier
from magvit_runtime import bits_to_ids, open_bundle
from magvit_runtime.agreement.signs import compare_latents
from magvit_runtime.bundle.engine_records import ENGINE_SCHEMA_VERSION, EngineKey, EngineRecord
from magvit_runtime.bundle.manifest import FileRecord, Precision, Role
from magvit_runtime.bundle.reading import graph_sha256
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.native_libraries.lookup import PLUGIN_INTERFACE, operators_library
from magvit_runtime.results.token_files import token_file_info

TABLE = Path(__file__).with_name("behaviour_table.json")
CHILD = Path(__file__).with_name("behaviour_of_machine.py")

CLIP = (3, 16, 16, 3)

L4 = StandInGpu("NVIDIA L4", "8.9", "GPU-00000000-0000-0000-0000-0000000000a4")
T4 = StandInGpu("Tesla T4", "7.5", "GPU-00000000-0000-0000-0000-0000000000b4")
H100 = StandInGpu("NVIDIA H100 80GB HBM3", "9.0", "GPU-00000000-0000-0000-0000-0000000000c1")

CPU = {"onnxruntime": "1.0"}
GPU = {"cuda-bindings": "13.0"}
TENSORRT = {"tensorrt-cu13": "10.14.1"}
RTX = {"tensorrt-rtx-cu13": "1.7.1"}
ALL_LIBRARIES = ("libmagvit_operators.so", "libmagvit_cuda.so", "libmagvit_plugins.so")

MACHINES = {
    "CPU": StandInMachine(packages=CPU),
    "CPU, no ONNX Runtime": StandInMachine(),
    "CPU, no native library": StandInMachine(packages=CPU, libraries=()),
    "driver, no GPU": StandInMachine(gpus=(), packages=CPU | GPU),
    "L4, ONNX Runtime for CUDA": StandInMachine(gpus=(L4,), packages={"onnxruntime-gpu": "1.25.0"}),
    "L4, native CUDA without cuDNN": StandInMachine(
        gpus=(L4,), packages=CPU | GPU | {"nvidia-cudnn-frontend": "1.32"}, libraries=ALL_LIBRARIES
    ),
    "L4, TensorRT": StandInMachine(
        gpus=(L4,), packages=CPU | GPU | TENSORRT, libraries=ALL_LIBRARIES
    ),
    "L4, TensorRT without plugins": StandInMachine(gpus=(L4,), packages=CPU | GPU | TENSORRT),
    "H100, both flavours": StandInMachine(
        gpus=(H100,), packages=CPU | GPU | TENSORRT | RTX, libraries=ALL_LIBRARIES
    ),
    "L4, RTX": StandInMachine(gpus=(L4,), packages=CPU | GPU | RTX, libraries=ALL_LIBRARIES),
    # CUDA counts the fastest GPU first; the driver's tool uses the order of the bus.
    "T4 and L4, TensorRT, CUDA's first is the L4": StandInMachine(
        gpus=(T4, L4), cuda_order=(1, 0), packages=CPU | GPU | TENSORRT, libraries=ALL_LIBRARIES
    ),
}

# Faults of a bundle are the same everywhere.
FAULTY_ENGINES_ON = ("CPU", "L4, TensorRT")
# Bundles without running engines: the stand-in for TensorRT computes other values than the graphs.
VERIFIED_ON = ("CPU", "CPU, no ONNX Runtime", "CPU, no native library", "driver, no GPU")


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("machines")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles: graphs alone; with engines; and engines with a fault each."""
    folder = tmp_path_factory.mktemp("bundles")
    float32, half, engines, unreadable, damaged = (
        folder / name for name in ("fp32", "fp16", "engines", "unreadable sidecar", "damaged plan")
    )
    export(float32, "fp32", ClipSizes())
    export(float32, "fp32", ClipSizes(), "decode")
    train(float32)
    export(half, "fp16", ClipSizes())
    for precision in ("fp32", "fp16"):
        export(engines, precision, ClipSizes(None, *CLIP[:3]))
    write_engines(engines)
    shutil.copytree(engines, unreadable)
    (unreadable / "engines" / "broken.json").write_text("{")
    shutil.copytree(engines, damaged)
    (damaged / "engines" / "l4-version-compatible.plan").write_text("damaged")
    return folder


def export(path: Path, precision: Precision, sizes: ClipSizes, role: Role = "encode") -> None:
    entry = find_model("trajectory-small")
    export_model(
        entry,
        path,
        weights="seeded",
        roles=[role],
        config=TINY,
        precision=precision,
        sizes=sizes,
    )


def train(path: Path) -> None:
    """Gives a bundle a classifier of seeded weights."""
    bundle, grid = open_bundle(path), (3, 8, 8)
    torch.manual_seed(0)
    head = TrajectoryClassifier(num_classes=2, grid=grid)
    export_classifier(bundle, head, ("circle", "line"), token_file_info(bundle, grid), "bits", {})


def write_engines(path: Path) -> None:
    """Engines for several machines; the stand-in for TensorRT takes their plans."""
    bundle = open_bundle(path)
    key = EngineKey(
        role="encode",
        flavour="tensorrt",
        version="10.14.1",
        cuda="13",
        sms=("8.9",),
        gpu="NVIDIA L4",
        precision="fp16",
        profiles=(profile_of(1, 2, 4, CLIP),),
        onnx_sha256=graph_sha256(bundle, bundle.graphs("encode")["fp16"]),
        plugin_interface=PLUGIN_INTERFACE,
        options={},
    )

    def but(**changes: Any) -> EngineKey:
        return msgspec.structs.replace(key, **changes)

    portable = but(
        flavour="tensorrt-rtx", version="1.7.1", gpu=None, sms=("8.0", "8.6", "8.9", "12.0", "12.1")
    )
    keys = {
        "any-l4": but(gpu=None),
        "h100": but(gpu="NVIDIA H100 80GB HBM3", sms=("9.0",)),
        "l4": key,
        "l4-older-graph": but(onnx_sha256="0" * 64),
        "l4-older-tensorrt": but(version="10.13.0"),
        "l4-version-compatible": but(version="10.13.0", options={"version_compatible": True}),
        "portable": portable,
    }
    folder = path / "engines"
    folder.mkdir()
    shapes = {"profiles": [[[batch, *CLIP] for batch in (1, 2, 4)]]}
    for name, one in keys.items():
        plan = folder / f"{name}.plan"
        plan.write_text(json.dumps(shapes))
        record = EngineRecord(
            schema_version=ENGINE_SCHEMA_VERSION,
            key=one,
            plan=FileRecord(plan.stat().st_size, file_sha256(plan)),
            layers=(),
            plugin_layers={"LFQ": 1},
            plugin_sha256=None,
            build_seconds=1.0,
            machine="a stand-in",
            created="today",
        )
        plan.with_suffix(".json").write_bytes(msgspec.json.encode(record))


def behave(machine: str, bundles: Path, folder: Path) -> Any:
    """What bundles do on a machine."""
    operators = operators_library()
    if operators is None:
        pytest.skip("libmagvit_operators.so was not built: cmake -B build && cmake --build build")
    here = folder / re.sub(r"\W+", "-", machine)
    variables = environment(MACHINES[machine], operators, here)
    # `magvit verify` writes into bundles.
    own = shutil.copytree(bundles, here / "bundles")
    if machine not in FAULTY_ENGINES_ON:
        shutil.rmtree(own / "damaged plan")
        shutil.rmtree(own / "unreadable sidecar")
    process = subprocess.run(
        [sys.executable, str(CHILD), str(own), *(["verify"] if machine in VERIFIED_ON else [])],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    text = process.stdout.replace(f"{own}/", "").replace(str(here), "MACHINE")
    return json.loads(without_measurements(text))


def without_measurements(text: str) -> str:
    for pattern, word in (
        (r"(sha256|built for|here) (?:[0-9a-f]{64}|[0-9a-f]{12})\b", r"\1 DIGEST"),
        (r"((?:python|magvit-runtime|numpy|onnxruntime) +)\d[\w.+]*", r"\1VERSION"),
        (r"(native backend    CPU), [^\"]+", r"\1, INSTRUCTIONS"),
        (r"\d\.\de[-+]\d\d", "ERROR"),
        (r"\d+ of (\d+ tokens changed)", r"SOME of \1"),
        (r"(ORT providers     )CPU\w+(, CPU\w+)*|AzureExecutionProvider, ", r"\1"),
    ):
        text = re.sub(pattern, word, text)
    return text


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_behaviour_is_that_of_the_table(machine: str, bundles: Path, machines: Path) -> None:
    check(machine, behave(machine, bundles, machines))


def test_parity_numbers_are_those_of_the_table() -> None:
    """All figures of `compare_latents`, on latents that no graph made."""
    random = np.random.default_rng(0)
    reference = random.integers(-1000, 1001, (3, 6, 2, 4, 4)) / 500
    latents = reference + random.integers(-100, 101, reference.shape) / 5_000
    agreement = compare_latents(latents, reference, bits_to_ids(np.moveaxis(latents > 0, 1, -1)))
    measured = ("rms", "max", "spread", "bits", "flipped_bits", "outside_margin", "tokens")
    measured += ("changed_tokens", "wrong_ids", "flips_by_margin", "worst_clip_rms")
    found = {name: rounded(getattr(agreement, name)) for name in measured}
    found["channels.rms"] = rounded(agreement.channels.rms.tolist())
    assert found["flipped_bits"] > 0
    check("parity of stored latents", found)


def rounded(value: Any) -> Any:
    """12 digits: the order in which NumPy adds depends on the CPU."""
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def check(name: str, found: Any) -> None:
    """Compares an entry of the table, or writes it."""
    table = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}
    if os.environ.get("MAGVIT_WRITE_TABLE"):
        table[name] = found
        text = json.dumps(table, indent=1, ensure_ascii=False)
        TABLE.write_text(text + "\n", encoding="utf-8")
    assert found == table.get(name), "the head of this file says how to write the table again"
