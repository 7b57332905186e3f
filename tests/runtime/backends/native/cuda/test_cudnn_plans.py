"""The real cuDNN has plans for every conv of the released models on the GPUs of EC2.

It plans from a description of the GPU, so none is needed; nothing is run. The properties in
gpu_properties.json are those of the data sheets and of CUDA's programming guide.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import msgspec
import pytest

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry, ConvPlan
from magvit_runtime.backends.native.cuda.schedule import Workspaces, plan_schedule
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.backends.native.program import ClipShape
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.onnx_file import read_graph

HERE = Path(__file__).parent
CUDNN_SITE = "MAGVIT_CUDNN_SITE"
# Properties that are the same for all GPUs, and further ones that cuDNN reads.
COMMON_PROPERTIES = {
    "cudaDeviceId": 0,
    "deviceId": 0,
    "driverVer": 13000,
    "maxGridSize": [2147483647, 65535, 65535],
    "maxBlockSize": [1024, 1024, 64],
    "regsPerBlock": 65536,
    "warpSize": 32,
    "maxSharedMemoryPerBlock": 49152,
    "oversizedSharedMemoryPerBlock": 0,
    "maxRegistersPerSM": 65536,
    "maxThreadsPerBlock": 1024,
    "pciDeviceId": 0,
    "isTccDriver": 0,
    "supportCoopLaunch": 1,
}


# A model, its role, one clip of its input, and batches.
RELEASED: dict[str, tuple[str, Role, ClipShape, tuple[int, ...]]] = {
    "video encoder": ("open-magvit2-video-128", "encode", (17, 128, 128, 3), (1, 8)),
    "video decoder": ("open-magvit2-video-128", "decode", (5, 16, 16, 1), (1,)),
    "ibq encoder": ("ibq-1024", "encode", (1, 256, 256, 3), (1,)),
    "ibq decoder": ("ibq-1024", "decode", (1, 16, 16, 1), (1,)),
}


def convs_of(name: str, folder: Path) -> list[ConvGeometry]:
    """Convs of a released model in half precision, each once.

    One residual block a level has the geometries of the released four.
    """
    released, role, clip, batches = RELEASED[name]
    model = find_model(released)
    config = msgspec.structs.replace(model.config, num_res_blocks=1)
    export_model(model, folder, weights="seeded", roles=[role], config=config, precision="fp16")
    program = lower(read_graph(folder / f"{role}.fp16.onnx"))
    shapes = program.shapes({program.inputs[0].name: clip})
    found: dict[ConvGeometry, None] = {}

    def note(geometry: ConvGeometry) -> ConvPlan:
        found[geometry] = None
        return ConvPlan("implied", 0, {}, 0, 0.0)

    for batch in batches:
        workspaces = Workspaces(lambda *_: 16, lambda _: 16, lambda _: 16)
        plan_schedule(program, batch, shapes, "fp16", note, workspaces)
    return list(found)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the child finds cuDNN, and a driver that has no GPU."""
    site = os.environ.get(CUDNN_SITE, "")
    libraries = [Path(site, "nvidia", name, "lib") for name in ("cudnn", "cu13")]
    if not all(folder.is_dir() for folder in libraries):
        pytest.skip(f"no cuDNN: `make build/cudnn`, and {CUDNN_SITE}=build/cudnn")
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("driver")
    source = HERE / "cuda_driver_stub.cpp"
    library = folder / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, [folder, *libraries])),
        "PYTHONPATH": os.pathsep.join([site, *sys.path[1:]]),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    # All four take 7 minutes.
    [
        "video encoder",
        *(pytest.param(name, marks=pytest.mark.nightly) for name in list(RELEASED)[1:]),
    ],
)
def test_every_conv_of_a_released_model_has_plans(
    environment: dict[str, str], tmp_path: Path, name: str
) -> None:
    convs = convs_of(name, tmp_path / "bundle")
    # The island before ids or bytes is float32; encoders have strides.
    assert {conv.precision for conv in convs} == {"fp16", "fp32"}
    strides = {
        "video encoder": {(1, 1, 1), (1, 2, 2), (2, 2, 2)},
        "ibq encoder": {(1, 1, 1), (1, 2, 2)},
    }
    assert {conv.stride for conv in convs} == strides.get(name, {(1, 1, 1)})
    gpus = json.loads((HERE / "gpu_properties.json").read_text())
    job = {
        "gpus": {name: COMMON_PROPERTIES | facts for name, facts in gpus.items()},
        "convs": [asdict(conv) for conv in convs],
    }
    ran = subprocess.run(
        [sys.executable, HERE / "plan_convs.py"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    plans: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        plans[row["gpu"], row["conv"]] += row["plans"]
        assert row["restored"] == row["engines"], row
    assert plans.keys() == {(gpu, conv.key) for gpu in gpus for conv in convs}
    assert [conv for conv, count in plans.items() if count == 0] == []
    for gpu in gpus:  # What docs/gpu.md says; pytest shows it with -s.
        for batch in RELEASED[name][3]:
            count = sum(plans[gpu, conv.key] for conv in convs if conv.batch == batch)
            print(f"{name}, {gpu}: {count} plans at batch {batch}")
