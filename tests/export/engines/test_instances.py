"""What EC2 instances get from a machine without their GPUs, and what they don't."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from known_machines import known_gpu, known_machine

from magvit_export.cli.build import build
from magvit_export.engines import BuildOptions
from magvit_export.engines.instances import INSTANCES, distinct_plans, plan_for_instances
from magvit_runtime import InputError, open_bundle
from magvit_runtime.hardware.flavours import InstalledFlavour
from magvit_runtime.hardware.machine import Machine

RTX = InstalledFlavour("tensorrt-rtx", "1.7.1.116", "13")
FULL = InstalledFlavour("tensorrt", "11.1.0.106", "13")
GUIDE = (Path(__file__).parents[3] / "docs" / "engines.md").read_text(encoding="utf-8")


def machine(*flavours: InstalledFlavour, gpu: tuple[str, str] | None = None) -> Machine:
    found = known_gpu(*gpu) if gpu else None
    return known_machine(*flavours, gpu=found, plugin_interface=1)


def test_one_portable_engine_serves_several(engine_bundle: Path) -> None:
    targets = plan_for_instances(
        open_bundle(engine_bundle), BuildOptions(), machine(RTX), "g5,g6, g6e"
    )
    assert [(one.instance, one.gpu, one.sm) for one in targets] == [
        ("g5", "A10G", "8.6"),
        ("g6", "L4", "8.9"),
        ("g6e", "L40S", "8.9"),
    ]
    (plan,) = distinct_plans(targets)
    assert plan.key.gpu is None
    assert {"8.6", "8.9"} <= set(plan.key.sms)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("g4dn", "no float32 3-D convolution for compute capability 7.5.*there is none here"),
        ("p5", "does not support compute capability 9.0.*there is none here"),
        ("p6-b300", "does not support compute capability 10.3"),
    ],
)
def test_what_cannot_be_built_here_says_why(engine_bundle: Path, name: str, why: str) -> None:
    bundle = open_bundle(engine_bundle)
    (target,) = plan_for_instances(bundle, BuildOptions(), machine(RTX, FULL), name)
    assert target.plan is None
    assert re.search(why, target.why)
    assert target.fix == f"magvit build {bundle.path} on a {name}"


def test_engines_that_take_weights_need_a_gpu(engine_bundle: Path) -> None:
    options = BuildOptions(strip_weights=True)
    (target,) = plan_for_instances(open_bundle(engine_bundle), options, machine(RTX), "g6")
    assert target.plan is None
    assert "graph_jit.cpp:278" in target.why


def test_the_gpu_here_gets_a_tuned_engine_and_others_a_portable_one(engine_bundle: Path) -> None:
    bundle = open_bundle(engine_bundle)
    here = machine(RTX, FULL, gpu=("NVIDIA L4", "8.9"))
    tuned, portable = plan_for_instances(bundle, BuildOptions(), here, "g6,g6e")
    assert tuned.plan is not None
    assert (tuned.plan.key.flavour, tuned.plan.key.gpu) == ("tensorrt", "NVIDIA L4")
    assert portable.plan is not None
    assert portable.plan.key.flavour == "tensorrt-rtx"
    only = BuildOptions(flavour="tensorrt")
    tuned, refused = plan_for_instances(bundle, only, here, "g6,g6e")
    assert tuned.plan is not None
    assert refused.plan is None
    assert "here is NVIDIA L4" in refused.why


def test_a_gpu_that_tensorrt_rtx_refuses_is_no_hindrance(engine_bundle: Path) -> None:
    here = machine(RTX, FULL, gpu=("NVIDIA H100 80GB HBM3", "9.0"))
    targets = plan_for_instances(open_bundle(engine_bundle), BuildOptions(), here, "p5,g6")
    flavours = [one.plan.key.flavour for one in targets if one.plan]
    assert flavours == ["tensorrt", "tensorrt-rtx"]


def test_a_part_of_a_gpu_is_not_the_gpu(engine_bundle: Path) -> None:
    here = machine(FULL, gpu=("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "8.0"))
    (target,) = plan_for_instances(open_bundle(engine_bundle), BuildOptions(), here, "p4d")
    assert target.plan is None
    assert "needs TensorRT for RTX" in target.why


def test_what_makes_no_sense(engine_bundle: Path) -> None:
    bundle = open_bundle(engine_bundle)
    with pytest.raises(InputError, match=r"called so: found g99, expected g4dn, g5"):
        plan_for_instances(bundle, BuildOptions(), machine(RTX), "g5,g99")
    with pytest.raises(InputError, match="--for and --sm"):
        plan_for_instances(bundle, BuildOptions(sm="8.9"), machine(RTX), "g5")


def test_the_command_plans_what_can_be_and_fails_for_the_rest(
    engine_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magvit_runtime.hardware.machine.Machine", lambda: machine(RTX))
    outcome = build(engine_bundle, instances="g6,p5,g5", dry_run=True)
    assert not outcome.passed
    g6, p5, g5 = outcome.facts["instances"]
    assert g6["plan"] == g5["plan"] == outcome.facts["engines"][0]["plan"]
    assert p5["plan"] is None
    assert "p5 (H100, 9.0): not built here: TensorRT-RTX does not support" in outcome.text
    assert build(engine_bundle, instances="g6", dry_run=True).passed


def test_the_guide_lists_the_same_instances() -> None:
    rows = re.findall(r"^\| ([\w, -]+) \| ([\w ]+) \| (\d+\.\d) \|", GUIDE, re.M)
    listed = {name: (gpu, sm) for names, gpu, sm in rows for name in names.split(", ")}
    assert listed == INSTANCES
