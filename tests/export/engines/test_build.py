"""Real TensorRT-RTX builds, which need no GPU, and the handling of damaged or foreign engines."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import msgspec
import onnx
import pytest
from known_machines import known_gpu, known_machine
from seeded_checkpoints import TINY

from magvit_export.catalog import find_model
from magvit_export.engines import BuildOptions, BuildPlan, BuildResult, build_engine, plan_build
from magvit_export.engines.build import run_worker
from magvit_export.engines.failures import BuildError, BuildInterruptedError
from magvit_export.engines.protocol import BuildRequest
from magvit_export.exporting import export_model
from magvit_runtime import BackendError, BundleError, InputError, open_bundle
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.backends.trt.engines import (
    Engine,
    UnreadableEngine,
    check_plan,
    find_engines,
    first_mismatch,
    rebuild_command,
)
from magvit_runtime.bundle.engine_records import EngineRecord, ShapeRange
from magvit_runtime.hardware.machine import Machine
from magvit_runtime.native_libraries.lookup import plugin_library

pytestmark = [
    pytest.mark.skipif(
        find_spec("tensorrt_rtx") is None,
        reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13",
    ),
    pytest.mark.skipif(
        plugin_library() is None,
        reason="libmagvit_plugins.so was not built: it needs nvcc and TensorRT's headers",
    ),
]

OPTIONS = BuildOptions(flavour="tensorrt-rtx", profile="1/2/4", frames=5, height=32, width=32)


def plan_of(bundle: Path, options: BuildOptions = OPTIONS) -> BuildPlan:
    return plan_build(open_bundle(bundle), options, Machine())


def build_here(bundle: Path, options: BuildOptions = OPTIONS) -> BuildResult:
    return build_engine(open_bundle(bundle), plan_of(bundle, options))


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_plan_and_sidecar(engine_bundle: Path, precision: str) -> None:
    steps = []
    bundle = open_bundle(engine_bundle)
    options = BuildOptions(
        flavour="tensorrt-rtx", precision=precision, profile="1/2/4", frames=5, height=32, width=32
    )
    built = build_engine(bundle, plan_of(engine_bundle, options), steps.append)
    record = built.engine.record
    assert not built.was_there
    assert steps
    # Two levels, one block each, and one in the middle: two norms a block, and the last one.
    assert record.plugin_layers == {"GroupNormSiLU": 7, "LFQ": 1}
    types = {layer.name: (layer.type, layer.precision) for layer in record.layers}
    half = "HALF" if precision == "fp16" else "FLOAT"
    assert types["encoder.down.0.block.0.norm1/GroupNormSiLU"] == ("PLUGIN_V3", half)
    assert types["encoder.down.0.block.0.conv1.conv_1/Conv"] == ("CONVOLUTION", half)
    assert types["encoder.conv_out.conv_1/Conv"] == ("CONVOLUTION", "FLOAT")
    assert types["LFQ"] == ("PLUGIN_V3", "INT32")
    check_plan(built.engine)
    assert [engine.record for engine in find_engines(bundle)] == [record]
    left = {path.name for path in (engine_bundle / "engines").iterdir()}
    # The folder's lock is gone with the build.
    assert left == {built.engine.plan.name, built.engine.plan.with_suffix(".json").name}


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_codebooks_engine_has_plugins_where_there_are_some(
    tiny_ibq_bundle: Path, tmp_path: Path, precision: str
) -> None:
    """Attention is taken by its definition, whose layers are TensorRT's own."""
    bundle = shutil.copytree(tiny_ibq_bundle, tmp_path / "bundle")
    options = BuildOptions(
        flavour="tensorrt-rtx", precision=precision, profile="1/2/4", height=32, width=32
    )
    record = build_here(bundle, options).engine.record
    assert record.plugin_layers == {"GroupNormSiLU": 9, "GroupNorm": 2, "CodebookArgmax": 1}
    types = {layer.name: (layer.type, layer.precision) for layer in record.layers}
    assert types["quantize/CodebookArgmax"] == ("PLUGIN_V3", "INT32")
    assert types["products"] == ("MATRIX_MULTIPLY", "FLOAT")


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_codebooks_decoder_has_an_engine(
    tiny_ibq_bundle: Path, tmp_path: Path, precision: str
) -> None:
    bundle = shutil.copytree(tiny_ibq_bundle, tmp_path / "bundle")
    options = BuildOptions(
        flavour="tensorrt-rtx",
        role="decode",
        precision=precision,
        profile="1/2/4",
        height=32,
        width=32,
    )
    record = build_here(bundle, options).engine.record
    assert record.plugin_layers == {"GroupNormSiLU": 13, "GroupNorm": 3}
    (shapes,) = record.key.profiles[0].values()
    assert shapes == ShapeRange((1, 16, 16), (2, 16, 16), (4, 16, 16))
    types = {layer.name: (layer.type, layer.precision) for layer in record.layers}
    half = "HALF" if precision == "fp16" else "FLOAT"
    assert types["decoder.up.1.upsample.conv/Conv"] == ("CONVOLUTION", half)
    assert types["decoder.conv_out/Conv"] == ("CONVOLUTION", "FLOAT")


def test_an_engine_of_three_profiles(engine_bundle: Path) -> None:
    """A plan holds its profiles' shapes as 64-bit sizes; without a GPU nothing else reads it."""
    options = replace(OPTIONS, profile="1,4,8")
    built = build_here(engine_bundle, options)
    plan = built.engine.plan.read_bytes()

    def has(batch: int) -> bool:
        return struct.pack("<5q", batch, 5, 32, 32, 3) in plan

    assert [batch for batch in range(1, 10) if has(batch)] == [1, 2, 4, 5, 8]
    batches = [next(iter(profile.values())) for profile in built.engine.record.key.profiles]
    assert [(one.minimum[0], one.maximum[0]) for one in batches] == [(1, 1), (2, 4), (5, 8)]
    assert built.engine.record.plugin_layers == {"GroupNormSiLU": 7, "LFQ": 1}
    command = rebuild_command(built.engine)
    assert "--profile 1/1/1,2/4/4,5/8/8 --frames 5 --height 32 --width 32" in command
    # As the session takes them on a machine where it fits.
    rtx = Machine().flavours["tensorrt-rtx"]
    bundle = open_bundle(engine_bundle)
    there = known_machine(rtx, gpu=known_gpu("L4", "8.9"), plugin_interface=1)
    way = next(one for one in list_candidates(bundle, "encode", there).fit if one.is_engine)
    assert (list(way.batches), way.usual_batches) == (list(range(1, 9)), (1, 4, 8))


@pytest.mark.parametrize("options", [{"strip_weights": True}, {"refit": True}])
def test_an_engine_that_takes_weights_needs_a_gpu_to_be_built(
    engine_bundle: Path, tmp_path: Path, options: dict[str, bool]
) -> None:
    """What `plan_build` says before, TensorRT-RTX says itself."""
    if Machine().gpu is not None:
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendError, match=r"graph_jit\.cpp:278"):
        plan_of(engine_bundle, replace(OPTIONS, **options))
    plan = plan_of(engine_bundle)
    key = msgspec.structs.replace(plan.key, options=plan.key.options | options)
    graph = str(engine_bundle / "encode.fp16.onnx")
    written = tmp_path / "plan"
    request = BuildRequest(
        key, graph, str(plugin_library()), plan.graph.operators, str(written), None
    )
    with pytest.raises(BuildError, match=r"graph_jit\.cpp:278: CHECK\(status == CUDA_SUCCESS\)"):
        run_worker(request, tmp_path, lambda _: None)
    assert not written.exists()


def test_nothing_is_built_twice(engine_bundle: Path) -> None:
    first = build_here(engine_bundle)
    written = first.engine.plan.stat().st_mtime_ns
    again = build_here(engine_bundle)
    assert again.was_there
    assert again.engine.record == first.engine.record
    assert first.engine.plan.stat().st_mtime_ns == written


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff/bundle"])
def test_a_path_that_isnt_text_is_refused_before_the_work(
    engine_bundle: Path, tmp_path: Path, name: bytes
) -> None:
    moved = Path(os.fsdecode(os.fsencode(tmp_path / "moved") + b"/" + name))
    moved.parent.mkdir(parents=True)
    engine_bundle.rename(moved)
    before = sorted(moved.rglob("*"))
    (tmp_path / "link").symlink_to(moved)
    for path in (moved, tmp_path / "link"):
        with pytest.raises(InputError, match="TensorRT takes no path that isn't UTF-8: found /"):
            build_here(path)
    assert sorted(moved.rglob("*")) == before


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_plan_is_found_and_built_again(engine_bundle: Path, damage: str) -> None:
    engine = build_here(engine_bundle).engine
    content = bytearray(engine.plan.read_bytes())
    if damage == "truncated":
        engine.plan.write_bytes(content[:-1])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        engine.plan.write_bytes(content)
    else:
        engine.plan.unlink()
    message = "is missing" if damage == "missing" else "is damaged: found .* bytes, sha256"
    with pytest.raises(BundleError, match=f"{message}.*magvit build .* --precision fp16"):
        check_plan(engine)
    again = build_here(engine_bundle)
    assert not again.was_there
    check_plan(again.engine)  # Not the old sidecar: two builds of one key may differ in bytes.


def sidecar_with(engine: Engine, **changes: object) -> Engine:
    key = msgspec.structs.replace(engine.record.key, **changes)
    return Engine(engine.plan, msgspec.structs.replace(engine.record, key=key))


def test_the_first_mismatch_is_named(engine_bundle: Path) -> None:
    engine = build_here(engine_bundle).engine
    bundle = open_bundle(engine_bundle)
    here = Machine()
    rtx, plugins = here.flavours["tensorrt-rtx"], here.plugin_interface
    l4 = known_gpu("L4", "8.9")
    on_l4 = known_machine(rtx, gpu=l4, plugin_interface=plugins)

    def what(engine: Engine, machine: Machine) -> str | None:
        mismatch = first_mismatch(engine, bundle, machine)
        return mismatch and mismatch.what

    assert what(engine, on_l4) is None
    assert what(engine, known_machine(rtx, gpu=None, plugin_interface=plugins)) == "GPU"
    assert what(engine, known_machine(gpu=l4, plugin_interface=plugins)) == "tensorrt-rtx"
    assert what(engine, known_machine(rtx, gpu=l4, plugin_interface=None)) == "plugin library"
    assert what(sidecar_with(engine, plugin_interface=2), on_l4) == "plugin library"
    assert what(sidecar_with(engine, version="1.2.0"), on_l4) == "version of tensorrt-rtx"
    assert what(sidecar_with(engine, onnx_sha256="d" * 64), on_l4) == "the bundle's ONNX graph"
    assert what(sidecar_with(engine, sms=("8.6",)), on_l4) == "compute capability"
    assert what(sidecar_with(engine, gpu="L40S"), on_l4) == "GPU"
    later = known_machine(rtx, gpu=known_gpu("R1", "13.0"), plugin_interface=plugins)
    assert what(engine, later) is None
    h100 = known_machine(rtx, gpu=known_gpu("H100", "9.0"), plugin_interface=plugins)
    mismatch = first_mismatch(engine, bundle, h100)
    assert (mismatch.what, mismatch.here) == ("compute capability", "9.0")


def test_a_malformed_sidecar_is_named(engine_bundle: Path) -> None:
    sidecar = build_here(engine_bundle).engine.plan.with_suffix(".json")
    sidecar.write_text(sidecar.read_text().replace('"schema_version": 2', '"schema_version": 3'))
    (engine,) = find_engines(open_bundle(engine_bundle))
    assert isinstance(engine, UnreadableEngine)
    assert "another schema version: found 3, expected 2" in engine.why
    sidecar.write_text("{")
    (engine,) = find_engines(open_bundle(engine_bundle))
    assert isinstance(engine, UnreadableEngine)
    assert re.search("is malformed.*build again", engine.why)
    assert not build_here(engine_bundle).was_there


def test_a_changed_graph_is_refused_before_it_is_parsed(engine_bundle: Path) -> None:
    graph = engine_bundle / "encode.fp16.data"
    content = bytearray(graph.read_bytes())
    content[100] ^= 1
    graph.write_bytes(content)
    with pytest.raises(BundleError, match="has changed since export"):
        build_here(engine_bundle)


def test_interruption_leaves_nothing_behind(engine_bundle: Path) -> None:
    def press_ctrl_c(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(BuildInterruptedError, match="interrupted; nothing was written"):
        build_engine(open_bundle(engine_bundle), plan_of(engine_bundle), press_ctrl_c)
    assert list((engine_bundle / "engines").iterdir()) == []


def test_ctrl_c_stops_the_command(engine_bundle: Path) -> None:
    command = "from magvit_runtime.cli.main import main; main()"
    arguments = ["build", str(engine_bundle), "--flavour", "tensorrt-rtx"]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job, as in CI, ignores SIGINT, and its children inherit this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(engine_bundle.glob("engines/.build.*/request.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert errors == "magvit: the build was interrupted; nothing was written\n"
    assert list((engine_bundle / "engines").iterdir()) == []


def test_tensorrts_refusal_is_one_sentence(engine_bundle: Path) -> None:
    with pytest.raises(BuildError, match="scratch memory than --workspace allows") as error:
        build_here(
            engine_bundle,
            BuildOptions(flavour="tensorrt-rtx", workspace=1, profile="64/64/64"),
        )
    assert "\n" not in str(error.value)
    assert not list(engine_bundle.glob("engines/*.plan"))


def test_a_graph_whose_nodes_became_no_plugins_is_refused(
    engine_bundle: Path, tmp_path: Path
) -> None:
    """Nodes ask for a plugin version that we don't have, so the parser takes their functions."""
    graph = engine_bundle / "encode.fp16.onnx"
    model = onnx.load(graph, load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "plugin_version":
                attribute.s = b"2"
    onnx.save(model, graph)
    plan = plan_of(engine_bundle)
    plugins, written = str(plugin_library()), str(tmp_path / "plan")
    request = BuildRequest(plan.key, str(graph), plugins, plan.graph.operators, written, None)
    with pytest.raises(BuildError, match=r"failed while parsing.*not PLUGIN_V3"):
        run_worker(request, tmp_path, lambda _: None)
    assert not Path(written).exists()


def test_a_library_without_our_plugins_is_refused(
    engine_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "libmagvit_plugins.so").write_bytes(b"no library")
    monkeypatch.setenv("MAGVIT_LIBRARY_DIR", str(tmp_path))
    with pytest.raises(BuildError, match=r"loading the plugin library.*file too short"):
        build_here(engine_bundle)


def test_the_command_and_its_dry_run(engine_bundle: Path) -> None:
    def magvit(*arguments: str) -> dict[str, object]:
        code = "from magvit_runtime.cli.main import main; main()"
        sizes = ["--frames", "5", "--height", "32", "--width", "32", "--profile", "1/2/4"]
        result = subprocess.run(
            [sys.executable, "-c", code, "--json", "build", str(engine_bundle), *sizes, *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stderr == ""
        return json.loads(result.stdout)

    dry = magvit("--dry-run")
    assert dry["dry_run"] is True
    assert not (engine_bundle / "engines").exists()
    built = magvit()
    assert (built["plan"], built["key"]) == (dry["plan"], dry["key"])
    assert built["plugin_layers"] == {"GroupNormSiLU": 7, "LFQ": 1}
    record = msgspec.json.decode(
        Path(str(built["plan"])).with_suffix(".json").read_bytes(), type=EngineRecord
    )
    assert record.plan.size == built["bytes"]


def test_a_decoder_has_an_engine_of_its_own(engine_bundle: Path) -> None:
    """Its profile is in tokens; the sizes that ask for it are the clips'."""
    entry = find_model("trajectory-small")
    export_model(
        entry, engine_bundle, weights="seeded", roles=["decode"], config=TINY, precision="fp16"
    )
    built = build_here(engine_bundle, replace(OPTIONS, role="decode"))
    record = built.engine.record
    assert record.key.role == "decode"
    (shapes,) = record.key.profiles[0].values()
    assert shapes == ShapeRange((1, 5, 16, 16), (2, 5, 16, 16), (4, 5, 16, 16))
    assert record.plugin_layers == {"GroupNorm": 2, "GroupNormSiLU": 7}
    assert rebuild_command(built.engine) == (
        f"magvit build {engine_bundle} --precision fp16 --profile 1/2/4 "
        "--frames 5 --height 32 --width 32 --role decode"
    )
