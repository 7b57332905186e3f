"""The plan of a build, which is decided before anything is built."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from known_machines import known_gpu, known_machine
from known_profiles import profile_of

from magvit_export.engines import BuildOptions, plan_build
from magvit_export.engines.planning import choose_flavour
from magvit_runtime import BackendError, InputError, MagvitError, open_bundle
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.hardware.flavours import Flavour, InstalledFlavour
from magvit_runtime.hardware.machine import Machine
from magvit_runtime.native_libraries.lookup import PLUGIN_INTERFACE

RTX = InstalledFlavour("tensorrt-rtx", "1.7.1.116", "13")
FULL = InstalledFlavour("tensorrt", "11.1.0.106", "13")

EC2 = {
    "T4": "7.5",
    "A100": "8.0",
    "A10G": "8.6",
    "L4": "8.9",
    "H100": "9.0",
    "B200": "10.0",
    "B300": "10.3",
    "RTX PRO 6000": "12.0",
}


def machine(gpu: str | None, *flavours: InstalledFlavour) -> Machine:
    found = None if gpu is None else known_gpu(gpu, EC2[gpu])
    return known_machine(*flavours, gpu=found, plugin_interface=PLUGIN_INTERFACE)


@pytest.mark.parametrize(
    ("gpu", "installed", "expected"),
    [
        (None, (RTX,), "tensorrt-rtx"),
        (None, (RTX, FULL), "tensorrt-rtx"),
        ("L4", (RTX,), "tensorrt-rtx"),
        ("L4", (RTX, FULL), "tensorrt"),
        ("A100", (RTX,), "tensorrt-rtx"),
        ("RTX PRO 6000", (RTX,), "tensorrt-rtx"),
        ("T4", (RTX, FULL), "tensorrt"),
        ("H100", (RTX, FULL), "tensorrt"),
        ("B200", (RTX, FULL), "tensorrt"),
        ("B300", (RTX, FULL), "tensorrt"),
    ],
)
def test_auto_takes_what_suits_the_machine(
    gpu: str | None, installed: tuple[InstalledFlavour, ...], expected: Flavour
) -> None:
    flavour, reason = choose_flavour(BuildOptions(), machine(gpu, *installed))
    assert flavour == expected
    assert reason


@pytest.mark.parametrize("gpu", ["T4", "H100", "B200", "B300"])
def test_auto_never_takes_rtx_where_rtx_refuses(gpu: str) -> None:
    with pytest.raises(BackendError, match=r"needs TensorRT, which isn't installed.*\[tensorrt\]"):
        choose_flavour(BuildOptions(), machine(gpu, RTX))
    with pytest.raises(InputError, match=f"{EC2[gpu]}.*use --flavour tensorrt"):
        choose_flavour(BuildOptions(flavour="tensorrt-rtx"), machine(gpu, RTX, FULL))


@pytest.mark.parametrize(
    ("options", "here", "message"),
    [
        (BuildOptions(flavour="tensorrt"), machine(None, FULL), "there is none here"),
        (BuildOptions(flavour="tensorrt", sm="8.0"), machine("L4", FULL), "found --sm 8.0"),
        (BuildOptions(sm="9.0"), machine("L4", RTX), "needs TensorRT, which isn't installed"),
        (
            BuildOptions(flavour="tensorrt-rtx", version_compatible=True),
            machine("L4", RTX),
            "options of tensorrt",
        ),
        (
            BuildOptions(flavour="tensorrt-rtx", hardware_compat="same-sm"),
            machine("L4", RTX),
            "options of tensorrt",
        ),
        (BuildOptions(timing_cache=True), machine(None, RTX), "options of tensorrt"),
        (BuildOptions(refit=True), machine(None, RTX), "it fails in graph_jit.cpp:278"),
        (BuildOptions(strip_weights=True), machine(None, RTX), "needs a GPU to build an engine"),
    ],
)
def test_what_can_not_be_is_refused(options: BuildOptions, here: Machine, message: str) -> None:
    with pytest.raises(MagvitError, match=message):
        choose_flavour(options, here)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "4/2/1"}, "minimum ≤ optimum ≤ maximum"),
        ({"profile": "1/4"}, "neither one batch nor three.*, as 1/4/16"),
        ({"profile": "4,2"}, "minimum ≤ optimum ≤ maximum"),
        ({"profile": "1/4/16,1/4/16"}, "1/4/16 comes twice"),
        ({"profile": "4@17x128"}, "17x128 isn't a size of 3 numbers"),
        ({"profile": "4@0x128x128"}, "sizes must be positive"),
        ({"profile": "1,,4"}, "makes no sense"),
        ({"profile": "0/1/2"}, "sizes must be positive"),
        ({"profile": "a/b/c"}, "makes no sense"),
        ({"frames": 0}, "sizes must be positive"),
        ({"opt_level": 6}, "expected 0..5"),
        ({"workspace": 0}, "`workspace` must be positive"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BuildOptions(**options).shapes(video=True)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("8", [(1, 8, 8, 17)]),
        ("1,4,8,16", [(1, 1, 1, 17), (2, 4, 4, 17), (5, 8, 8, 17), (9, 16, 16, 17)]),
        ("1/4/16,1/1/2@33x64x64", [(1, 4, 16, 17), (1, 1, 2, 33)]),
        ("1,1@33x64x64,4,2@33x64x64", [(1, 1, 1, 17), (1, 1, 1, 33), (2, 4, 4, 17), (2, 2, 2, 33)]),
    ],
)
def test_profiles_as_they_are_written(
    engine_bundle: Path, profile: str, expected: list[tuple[int, ...]]
) -> None:
    """Minimum, optimum and maximum of each, and its frames."""
    bundle = open_bundle(engine_bundle)
    plan = plan_build(bundle, BuildOptions(profile=profile), machine(None, RTX))
    sizes = {17: (17, 128, 128, 3), 33: (33, 64, 64, 3)}
    assert list(plan.key.profiles) == [
        profile_of(*batches, sizes[frames]) for *batches, frames in expected
    ]


def test_kernels_of_an_earlier_build(engine_bundle: Path) -> None:
    bundle, options = open_bundle(engine_bundle), BuildOptions(repeatable=True)
    here = machine("L4", FULL)
    with pytest.raises(InputError, match=r"timing.l4.11.1.0.106.cache is missing.*build once"):
        plan_build(bundle, options, here)
    kept = plan_build(bundle, BuildOptions(), here).timing_cache
    assert kept is not None
    kept.parent.mkdir()
    kept.touch()
    plan = plan_build(bundle, options, here)
    assert (plan.repeatable, plan.timing_cache) == (True, kept)
    assert plan.key == plan_build(bundle, BuildOptions(), here).key
    # Another GPU or version has timings of its own.
    for other in (machine("A10G", FULL), machine("L4", replace(FULL, version="11.4"))):
        with pytest.raises(InputError, match=r"timing\..*\.cache is missing"):
            plan_build(bundle, options, other)
    with pytest.raises(InputError, match="found --no-timing-cache"):
        plan_build(bundle, replace(options, timing_cache=False), here)
    with pytest.raises(InputError, match="found tensorrt-rtx"):
        plan_build(bundle, options, machine(None, RTX))


def test_plan_of_a_portable_engine(engine_bundle: Path) -> None:
    bundle = open_bundle(engine_bundle)
    plan = plan_build(bundle, BuildOptions(), machine(None, RTX))
    assert plan.key.sms == ("8.0", "8.6", "8.9", "12.0", "12.1")
    assert plan.key.gpu is None
    assert plan.key.profiles == (profile_of(1, 4, 16, (17, 128, 128, 3)),)
    assert plan.key.plugin_interface == PLUGIN_INTERFACE
    assert plan.timing_cache is None
    assert plan.plan.parent == engine_bundle / "engines"
    assert plan.plan.name.startswith("tensorrt-rtx-encode-fp16-portable-")


@pytest.mark.parametrize(
    ("compatibility", "sms", "name"),
    [("none", ("8.9",), "L4"), ("same-sm", ("8.9",), None)],
)
def test_targets_of_a_tuned_engine(
    engine_bundle: Path, compatibility: str, sms: tuple[str, ...], name: str | None
) -> None:
    options = BuildOptions(hardware_compat=compatibility)
    plan = plan_build(open_bundle(engine_bundle), options, machine("L4", FULL))
    assert (plan.key.sms, plan.key.gpu) == (sms, name)
    assert plan.timing_cache == engine_bundle / "engines" / "timing.l4.11.1.0.106.cache"


def test_polygraphy_builds_engines(engine_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    with pytest.raises(
        BackendError, match=r"needs Polygraphy.*magvit-runtime\[tensorrt\].*\[rtx\]"
    ):
        plan_build(open_bundle(engine_bundle), BuildOptions(), machine(None, RTX))


def test_ampere_plus_reaches_later_gpus(engine_bundle: Path) -> None:
    options = BuildOptions(hardware_compat="ampere-plus")
    plan = plan_build(open_bundle(engine_bundle), options, machine("A10G", FULL))
    assert {"8.0", "8.9", "9.0", "10.0", "12.0"} <= set(plan.key.sms)
    assert "7.5" not in plan.key.sms


def test_everything_that_changes_an_engine_changes_its_name(engine_bundle: Path) -> None:
    bundle = open_bundle(engine_bundle)
    here = machine(None, RTX)
    plans = [
        plan_build(bundle, options, where)
        for options, where in [
            (BuildOptions(), here),
            (BuildOptions(precision="fp32"), here),
            (BuildOptions(profile="1/2/4"), here),
            (BuildOptions(height=64), here),
            (BuildOptions(sm="8.9"), here),
            (BuildOptions(opt_level=5), here),
            (BuildOptions(workspace=512), here),
            (BuildOptions(), known_machine(RTX, gpu=None, plugin_interface=PLUGIN_INTERFACE + 1)),
            (BuildOptions(), machine(None, replace(RTX, version="1.8.0"))),
            (BuildOptions(), machine("L4", FULL)),
        ]
    ]
    assert len({plan.plan for plan in plans}) == len(plans)


def test_missing_plugin_library(engine_bundle: Path) -> None:
    bare = known_machine(RTX, gpu=None, plugin_interface=None)
    with pytest.raises(BackendError, match=r"libmagvit_plugins\.so is missing"):
        plan_build(open_bundle(engine_bundle), BuildOptions(), bare)


def test_bfloat16_has_no_kernels(engine_bundle: Path) -> None:
    with pytest.raises(InputError, match=r"not bfloat16.*--precision fp16"):
        plan_build(open_bundle(engine_bundle), BuildOptions(precision="bf16"), machine(None, RTX))


@pytest.mark.parametrize("role", ["context", "subtokens"])
def test_no_engine_is_planned_of_graphs_that_generate(ar_bundle: Path, role: Role) -> None:
    options = BuildOptions(role=role, precision="fp32", flavour="tensorrt-rtx")
    with pytest.raises(InputError, match=rf"no engine is built of {role} graphs.*ONNX Runtime"):
        plan_build(open_bundle(ar_bundle), options, machine(None, RTX))
