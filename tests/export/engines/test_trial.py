"""A new engine's first run. What opens is a graph in ONNX Runtime: no GPU is here to run a plan."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from known_machines import known_gpu, known_machine
from seeded_checkpoints import TINY

from magvit_export.catalog import find_model
from magvit_export.engines import BuildOptions, plan_build
from magvit_export.engines.failures import BuildError
from magvit_export.engines.trial import try_engine
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_runtime import BackendError, open_bundle
from magvit_runtime.backends.backend import Opening, Unfit
from magvit_runtime.backends.candidates import Candidates, list_candidates
from magvit_runtime.backends.trt.engines import Engine, read_sidecar
from magvit_runtime.bundle.engine_records import ENGINE_SCHEMA_VERSION, EngineRecord
from magvit_runtime.bundle.manifest import FileRecord, Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.hardware.flavours import InstalledFlavour
from magvit_runtime.verification.references import graph_reference
from magvit_runtime.verification.verifying import verify_bundle


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trial") / "bundle"
    entry, sizes = find_model("trajectory-small"), ClipSizes(frames=3, height=16, width=16)
    export_model(entry, path, weights="seeded", roles=["encode"], config=TINY, sizes=sizes)
    bundle = open_bundle(path)
    assert verify_bundle(bundle, graph_reference(bundle, "itself"), batch_sizes=(1,)).canary
    return path


@pytest.fixture
def bundle(verified: Path, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(verified, tmp_path / "bundle"))


@pytest.fixture
def engine(bundle: Bundle) -> Engine:
    options = BuildOptions(flavour="tensorrt", precision="fp32", profile="1/1/1")
    flavour = InstalledFlavour("tensorrt", "10.16.1", "13")
    machine = known_machine(flavour, gpu=known_gpu("NVIDIA L4", "8.9"), plugin_interface=1)
    plan = plan_build(bundle, options, machine)
    record = EngineRecord(
        schema_version=ENGINE_SCHEMA_VERSION,
        key=plan.key,
        plan=FileRecord(4, "0" * 64),
        layers=(),
        plugin_layers={},
        plugin_sha256=None,
        build_seconds=1.0,
        machine="a test",
        created="2026-11-26T00:00:00+00:00",
    )
    plan.plan.parent.mkdir()
    plan.plan.write_bytes(b"plan")
    plan.sidecar.write_bytes(msgspec.json.encode(record))
    return Engine(plan.plan, record)


def show(monkeypatch: pytest.MonkeyPatch, engine: Engine, **changes: Any) -> None:
    """Lets the engine be listed as one that fits here, and open as the graph."""

    def listed(bundle: Bundle, role: Role) -> Candidates:
        found = list_candidates(bundle, role)
        graph = next(one for one in found.fit if one.backend == "onnxruntime")
        way = replace(graph, subject=engine.plan.name, is_engine=True, **changes)
        return Candidates((way,), ())

    monkeypatch.setattr("magvit_export.engines.trial.list_candidates", listed)


def test_what_it_gives_is_told_and_kept(
    bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, engine)
    trial = try_engine(bundle, engine)
    assert trial.outputs is not None
    kept = read_sidecar(engine.plan.with_suffix(".json"))
    assert kept == msgspec.structs.replace(engine.record, canary_outputs=trial.outputs)
    assert try_engine(bundle, engine).outputs == trial.outputs


def test_one_that_is_another_model_is_removed(
    bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    sizes = ClipSizes(frames=3, height=16, width=16)
    entry = find_model("trajectory-small")
    export_model(entry, other, weights="seeded:5", roles=["encode"], config=TINY, sizes=sizes)
    stranger = next(
        one for one in list_candidates(open_bundle(other)).fit if one.backend == "onnxruntime"
    )
    show(monkeypatch, engine, open=lambda _: stranger.open(Opening("")))
    with pytest.raises(BuildError, match=r"isn't the model, and was removed.*doesn't give"):
        try_engine(bundle, engine)
    assert list(engine.plan.parent.iterdir()) == []


def test_one_that_cant_be_opened_is_removed(
    bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Opening) -> Any:
        raise BackendError("TensorRT can't load it")

    show(monkeypatch, engine, open=fails)
    with pytest.raises(BuildError, match="TensorRT can't load it"):
        try_engine(bundle, engine)


def test_here_it_isnt_tried(bundle: Bundle, engine: Engine) -> None:
    (way,) = (one for one in list_candidates(bundle).engines)
    assert isinstance(way, Unfit)
    trial = try_engine(bundle, engine)
    assert (trial.outputs, trial.why_not) == (None, way.why)
    assert read_sidecar(engine.plan.with_suffix(".json")) == engine.record


def test_without_a_canary_it_isnt_tried(bundle: Bundle, engine: Engine) -> None:
    manifest = json.loads((bundle.path / "bundle.json").read_text())
    del manifest["canaries"]
    (bundle.path / "bundle.json").write_text(json.dumps(manifest))
    why = try_engine(open_bundle(bundle.path), engine).why_not
    assert why.startswith("the bundle has no canary (magvit verify ")


def test_one_of_other_sizes_isnt_tried(
    bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, engine, clip_shape=(9, 64, 64, 3))
    assert "no canary of" in try_engine(bundle, engine).why_not
    assert engine.plan.is_file()
