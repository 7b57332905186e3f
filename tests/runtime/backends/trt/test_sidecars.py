"""Sidecars: the content of a key, sidecars that don't fit a bundle, and the first schema."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from known_machines import known_gpu, known_machine
from known_profiles import profile_of

from magvit_runtime import BundleError, open_bundle
from magvit_runtime.backends.trt.engines import (
    Engine,
    UnreadableEngine,
    find_engines,
    first_mismatch,
    read_sidecar,
    rebuild_command,
)
from magvit_runtime.bundle.engine_records import (
    ENGINE_SCHEMA_VERSION,
    EngineKey,
    EngineRecord,
    Profile,
    ShapeRange,
)
from magvit_runtime.bundle.manifest import FileRecord, Role
from magvit_runtime.bundle.reading import Bundle, graph_sha256
from magvit_runtime.hardware.flavours import InstalledFlavour
from magvit_runtime.types import Shape

CLIP = (5, 32, 48, 3)
RTX = InstalledFlavour("tensorrt-rtx", "1.7.1", "13")
L4 = known_gpu("L4", "8.9")


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def engine_of(bundle: Bundle, profile: Profile, plugin_interface: int | None = 1) -> Engine:
    key = EngineKey(
        role="encode",
        flavour="tensorrt-rtx",
        version="1.7.1",
        cuda="13",
        sms=("8.9",),
        gpu=None,
        precision="fp32",
        profiles=(profile,),
        onnx_sha256=graph_sha256(bundle, bundle.graphs("encode")["fp32"]),
        plugin_interface=plugin_interface,
        options={},
    )
    file = FileRecord(4, "0" * 64)
    record = EngineRecord(ENGINE_SCHEMA_VERSION, key, file, (), {}, None, 1.0, "here", "today")
    return Engine(bundle.path / "engines" / f"{key.name}.plan", record)


@pytest.mark.parametrize(
    ("minimum", "optimum", "maximum"),
    [((2,), (1,), (4,)), ((1,), (5,), (4,)), ((1, 2), (1,), (1, 2)), ((1, 3), (1, 2), (1, 3))],
)
def test_shapes_that_are_no_range(
    minimum: tuple[int, ...], optimum: tuple[int, ...], maximum: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="minimum ≤ optimum ≤ maximum"):
        ShapeRange(minimum, optimum, maximum)


def test_a_sidecar_reads_back(bundle: Bundle) -> None:
    engine = engine_of(bundle, profile_of(1, 2, 4, CLIP))
    engine.plan.parent.mkdir()
    text = msgspec.json.encode(engine.record)
    engine.plan.with_suffix(".json").write_bytes(text)
    assert json.loads(text)["key"]["profiles"] == [
        {"frames": {"minimum": [1, *CLIP], "optimum": [2, *CLIP], "maximum": [4, *CLIP]}}
    ]
    assert list(find_engines(bundle)) == [engine]


@pytest.mark.parametrize(
    ("clip", "sizes"),
    [(CLIP, "--frames 5 --height 32 --width 48"), (CLIP[1:], "--height 32 --width 48")],
    ids=["clips", "images"],
)
def test_the_command_builds_the_same_shapes(
    bundle: Bundle, clip: tuple[int, ...], sizes: str
) -> None:
    command = rebuild_command(engine_of(bundle, profile_of(1, 2, 4, clip)))
    assert command == f"magvit build {bundle.path} --precision fp32 --profile 1/2/4 {sizes}"


@pytest.mark.parametrize(
    ("role", "item"),
    [("decode", (5, 16, 24)), ("classify", (5, 16, 24)), ("features", CLIP), ("encode", CLIP)],
)
def test_the_command_builds_the_same_role(bundle: Bundle, role: Role, item: Shape) -> None:
    engine = engine_of(bundle, profile_of(1, 2, 4, item))
    key = msgspec.structs.replace(engine.record.key, role=role)
    engine = replace(engine, record=msgspec.structs.replace(engine.record, key=key))
    built = "--profile 1/2/4 --frames 5 --height 32 --width 48"
    built += "" if role == "encode" else f" --role {role}"
    assert rebuild_command(engine) == f"magvit build {bundle.path} --precision fp32 {built}"


@pytest.mark.parametrize(
    ("profile", "built_for"),
    [
        (profile_of(1, 2, 4, CLIP[1:]), "frames"),
        (profile_of(1, 2, 4, CLIP) | {"state": ShapeRange((1,), (1,), (1,))}, "frames, state"),
        ({"clips": ShapeRange((1, *CLIP), (1, *CLIP), (1, *CLIP))}, "clips"),
    ],
    ids=["another rank", "one more", "another name"],
)
def test_shapes_of_other_inputs_than_the_graphs(
    bundle: Bundle, profile: Profile, built_for: str
) -> None:
    engine = engine_of(bundle, profile)
    machine = known_machine(RTX, gpu=L4, plugin_interface=1)
    mismatch = first_mismatch(engine, bundle, machine)
    assert mismatch is not None
    assert (mismatch.what, mismatch.engine) == ("inputs", built_for)
    assert rebuild_command(engine).startswith(f"magvit build {bundle.path} --precision fp32")


def test_only_engines_that_call_plugins_need_them(bundle: Bundle) -> None:
    without = known_machine(RTX, gpu=L4, plugin_interface=None)
    profile = profile_of(1, 2, 4, CLIP)
    mismatch = first_mismatch(engine_of(bundle, profile), bundle, without)
    assert mismatch is not None
    assert mismatch.what == "plugin library"
    assert (mismatch.engine, mismatch.here) == ("interface 1", "none")
    later = known_machine(RTX, gpu=L4, plugin_interface=2)
    assert first_mismatch(engine_of(bundle, profile), bundle, later) is not None
    assert (
        first_mismatch(engine_of(bundle, profile, plugin_interface=None), bundle, without) is None
    )


def write_schema_one(bundle: Bundle, **key: Any) -> Path:
    """The part of a first-schema sidecar that is read."""
    sidecar = bundle.path / "engines" / "tensorrt-rtx-fp16-portable-0123456789ab.json"
    sidecar.parent.mkdir()
    profile = {"minimum": 1, "optimum": 4, "maximum": 16, "clip": [17, 128, 128, 3]}
    record = {"schema_version": 1, "key": {"precision": "fp16", "profile": profile} | key}
    sidecar.write_text(json.dumps(record))
    return sidecar


def test_one_of_the_first_schema_names_the_commands_that_replace_it(bundle: Bundle) -> None:
    sidecar = write_schema_one(bundle)
    with pytest.raises(BundleError) as error:
        read_sidecar(sidecar)
    (found,) = find_engines(bundle)
    assert isinstance(found, UnreadableEngine)
    assert found.why == str(error.value)
    remove, build = str(error.value.mend).split(" && ")
    assert str(error.value).startswith(f"{sidecar} has another schema version: found 1, expected 2")
    assert build == (
        f"magvit build {bundle.path} --precision fp16 --profile 1/4/16 "
        "--frames 17 --height 128 --width 128"
    )
    command, path = shlex.split(remove)
    assert command == "rm"
    Path(path).unlink()
    assert list(find_engines(bundle)) == []


def test_a_malformed_one_of_the_first_schema(bundle: Bundle) -> None:
    sidecar = write_schema_one(bundle, profile=None)
    with pytest.raises(BundleError, match="is malformed: found Expected `object`"):
        read_sidecar(sidecar)
