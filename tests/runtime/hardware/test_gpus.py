"""The GPUs that CUDA shows, in its order, and the handling of the driver's failures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from runtime.stand_in_machine import StandInGpu, StandInMachine, environment

from magvit_runtime.hardware.gpus import Gpu, gpu_slug, list_gpus

L4 = StandInGpu("NVIDIA L4", "8.9", "GPU-00000000-0000-0000-0000-0000000000a4")
T4 = StandInGpu("Tesla T4", "7.5", "GPU-00000000-0000-0000-0000-0000000000b4")
OTHER_T4 = StandInGpu("Tesla T4", "7.5", "GPU-c0000000-0000-0000-0000-0000000000b4")
BINDINGS = {"cuda-bindings": "13.0"}
LIST = "from magvit_runtime.hardware.gpus import list_gpus; [print(g.uuid) for g in list_gpus()]"


def listed(machine: StandInMachine, folder: Path) -> list[str]:
    """UUIDs, in the order in which a process on that machine sees them."""
    variables = environment(machine, Path("libmagvit_operators.so"), folder / "machine")
    process = subprocess.run(
        [sys.executable, "-c", LIST], env=variables, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


@pytest.fixture
def driver_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the driver's tool, first on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "nvidia-smi"


def write(script: Path, text: str) -> None:
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)


def test_facts_of_a_gpu(driver_tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    write(driver_tool, f"echo 'NVIDIA L4, 8.9, 580.159, 23034, 22000, {L4.uuid}'")
    assert list_gpus() == (Gpu("NVIDIA L4", "8.9", "580.159", 23034, 22000, L4.uuid),)


@pytest.mark.parametrize("text", ["exit 9", "echo 'No devices were found'", "true"])
def test_no_gpu(driver_tool: Path, text: str) -> None:
    write(driver_tool, text)
    assert list_gpus() == ()


def test_cudas_order_where_models_differ(tmp_path: Path) -> None:
    machine = StandInMachine(gpus=(T4, L4), cuda_order=(1, 0), packages=BINDINGS)
    assert listed(machine, tmp_path) == [L4.uuid, T4.uuid]


def test_without_cudas_bindings_the_drivers_order_stays(tmp_path: Path) -> None:
    machine = StandInMachine(gpus=(T4, L4), cuda_order=(1, 0))
    assert listed(machine, tmp_path) == [T4.uuid, L4.uuid]


def test_the_bus_order_can_be_asked_for(tmp_path: Path) -> None:
    variables = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    machine = StandInMachine((T4, L4), cuda_order=(1, 0), packages=BINDINGS, variables=variables)
    assert listed(machine, tmp_path) == [T4.uuid, L4.uuid]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("", []),
        ("-1", []),
        ("0", [L4]),
        ("1,0", [T4, L4]),
        ("2, 1", [OTHER_T4, T4]),
        ("1,7,0", [T4]),
        (OTHER_T4.uuid, [OTHER_T4]),
        ("GPU-c", [OTHER_T4]),
        ("GPU-0", []),
        (f"{T4.uuid},{L4.uuid}", [T4, L4]),
        ("MIG-5", [T4, L4, OTHER_T4]),
    ],
)
def test_what_cuda_visible_devices_shows(
    visible: str, expected: list[StandInGpu], tmp_path: Path
) -> None:
    """Indices count in CUDA's order; a wrong or ambiguous entry hides all entries after it."""
    machine = StandInMachine(
        gpus=(T4, L4, OTHER_T4),
        cuda_order=(1, 0, 2),
        packages=BINDINGS,
        variables={"CUDA_VISIBLE_DEVICES": visible},
    )
    assert listed(machine, tmp_path) == [gpu.uuid for gpu in expected]


PART = "MIG-7089d0f3-293f-58c9-8f8c-5ea666eedbde"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (PART, Gpu("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "8.0", "580.159", 0, 0, PART)),
        ("MIG-7089", Gpu("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "8.0", "580.159", 0, 0, PART)),
        # CUDA shows the first part that is named.
        (f"MIG-11,{PART}", Gpu("Tesla T4 MIG 1g.5gb", "7.5", "580.159", 0, 0, "MIG-11")),
    ],
)
def test_a_part_of_a_gpu_is_one(
    driver_tool: Path, monkeypatch: pytest.MonkeyPatch, visible: str, expected: Gpu
) -> None:
    """As `nvidia-smi -L` lists them in NVIDIA's guide; the T4 is there to have two."""
    write(
        driver_tool,
        f"""
case $1 in
-L) cat <<'END'
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-a1)
  MIG 3g.20gb     Device  0: (UUID: {PART})
  MIG 3g.20gb     Device  1: (UUID: MIG-56c30729-347f-5dd1-8da0-c3cc59e969e0)
GPU 1: Tesla T4 (UUID: GPU-b2)
  MIG 1g.5gb      Device  0: (UUID: MIG-11)
END
;;
*) echo 'NVIDIA A100-SXM4-40GB, 8.0, 580.159, 40960, 40000, GPU-a1'
   echo 'Tesla T4, 7.5, 580.159, 15360, 15000, GPU-b2' ;;
esac""",
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert list_gpus() == (expected,)


def test_a_name_as_part_of_a_files_name() -> None:
    assert gpu_slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
