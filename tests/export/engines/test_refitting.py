"""New weights into engines, without a build: on the stand-in for TensorRT."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from known_machines import known_gpu, known_machine
from known_profiles import profile_of
from runtime import stand_in_gpu
from runtime.stand_in_engines import write_engine

from magvit_export.cli.refit import refit
from magvit_export.engines.refitting import refit_engines
from magvit_runtime import open_bundle
from magvit_runtime.backends.trt.engines import Engine, check_plan, find_engines
from magvit_runtime.bundle.manifest import FileRecord
from magvit_runtime.bundle.onnx_weights import read_weights, structure_sha256
from magvit_runtime.bundle.reading import Bundle, graph_sha256
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.hardware.flavours import InstalledFlavour
from magvit_runtime.hardware.machine import Machine

CLIP = (5, 32, 32, 3)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Machine:
    stand_in_gpu.install(monkeypatch)
    flavour = InstalledFlavour("tensorrt", "1", "13")
    return known_machine(flavour, gpu=known_gpu("NVIDIA L4", "8.9"), plugin_interface=1)


def engine_of(path: Path, stripped: bool = False, **options: bool) -> Engine:
    """An engine of a bundle's graph as it is now."""
    bundle = open_bundle(path)
    graph = bundle.graphs("encode")["fp32"]
    onnx_file = bundle.verified_graph(graph)
    weights: dict[str, list[Any]] = {
        name: [array.dtype.name, array.size, None if stripped else 0.0]
        for name, array in read_weights(onnx_file).items()
        if "conv" in name
    }
    made = write_engine(path, profiles=(profile_of(1, 1, 2, CLIP),), weights=weights, **options)
    key = msgspec.structs.replace(
        made.record.key, precision="fp32", onnx_sha256=graph_sha256(bundle, graph)
    )
    structure = structure_sha256(onnx_file) if options.get("refit") else None
    record = msgspec.structs.replace(made.record, key=key, structure_sha256=structure)
    plan = path / "engines" / f"{key.name}.plan"
    plan.parent.mkdir(exist_ok=True)
    shutil.move(made.plan, plan)
    shutil.rmtree(path / "bundle")
    plan.with_suffix(".json").write_bytes(msgspec.json.encode(record))
    plan.with_name(f"{plan.stem}.nvidia-l4.runtime-cache").touch()
    return Engine(plan, record)


def change_weights(path: Path) -> Bundle:
    """Another checkpoint of the same architecture, as an export would write it."""
    data = path / "encode.fp32.data"
    values = np.fromfile(data, np.float32)
    np.nan_to_num(values * 2).tofile(data)
    manifest = json.loads((path / "bundle.json").read_text())
    manifest["files"]["encode.fp32.data"] = {
        "size": data.stat().st_size,
        "sha256": file_sha256(data),
    }
    (path / "bundle.json").write_text(json.dumps(manifest))
    return open_bundle(path)


def change_structure(path: Path) -> Bundle:
    graph = path / "encode.fp32.onnx"
    model = onnx.load(graph, load_external_data=False)
    model.graph.node[-1].name = "another"
    onnx.save(model, graph)
    manifest = json.loads((path / "bundle.json").read_text())
    manifest["files"][graph.name] = {
        "size": graph.stat().st_size,
        "sha256": file_sha256(graph),
    }
    (path / "bundle.json").write_text(json.dumps(manifest))
    return open_bundle(path)


def totals_in(plan: Path) -> dict[str, float]:
    return {name: total for name, (*_, total) in json.loads(plan.read_bytes())["weights"].items()}


def test_an_engine_takes_a_new_checkpoints_weights(engine_bundle: Path, here: Machine) -> None:
    old = engine_of(engine_bundle, refit=True)
    (same,) = refit_engines(open_bundle(engine_bundle), here)
    assert same.why_not == "it has the weights of the bundle's graph"
    changed = change_weights(engine_bundle)
    (done,) = refit_engines(changed, here)
    assert done.engine is not None, done.why_not
    weights = read_weights(changed.path / "encode.fp32.onnx")
    found = totals_in(done.engine.plan)
    assert len(found) > 10
    for name, total in found.items():
        assert total == pytest.approx(float(weights[name].sum(dtype=np.float64)))
    # It takes the old one's place, with all that was compiled of it, and fits the bundle.
    (left,) = find_engines(changed)
    assert left == done.engine
    check_plan(done.engine)
    assert left.record.key.onnx_sha256 == graph_sha256(changed, changed.graphs("encode")["fp32"])
    assert not list(old.plan.parent.glob(f"{old.plan.stem}*"))
    assert done.trial is not None
    assert "no canary" in done.trial.why_not


def test_a_plan_without_weights_stays_as_it_is(engine_bundle: Path, here: Machine) -> None:
    old = engine_of(engine_bundle, stripped=True, refit=True, strip_weights=True)
    content = old.plan.read_bytes()
    (done,) = refit_engines(change_weights(engine_bundle), here)
    assert done.engine is not None, done.why_not
    assert done.engine.plan.read_bytes() == content
    assert done.engine.plan != old.plan


@pytest.mark.parametrize(
    ("options", "change", "why"),
    [
        ({}, change_weights, "it wasn't built with --refit (magvit build"),
        ({"strip_weights": True}, change_weights, "it wasn't built with --refit (magvit build"),
        ({"refit": True}, change_structure, "the graph differs in more than weights (magvit build"),
    ],
)
def test_engines_that_stay(
    engine_bundle: Path, here: Machine, options: dict[str, bool], change: Any, why: str
) -> None:
    old = engine_of(engine_bundle, **options)
    (done,) = refit_engines(change(engine_bundle), here)
    assert (done.engine, done.why_not[: len(why)]) == (None, why)
    check_plan(old)


def test_an_engine_of_another_machine_stays(engine_bundle: Path, here: Machine) -> None:
    engine_of(engine_bundle, refit=True)
    changed = change_weights(engine_bundle)
    (done,) = refit_engines(changed, here.on(None))
    assert done.why_not == "GPU: built for compute capability 8.9, here none"


def test_what_tensorrt_refuses_leaves_the_old_engine(engine_bundle: Path, here: Machine) -> None:
    old = engine_of(engine_bundle, refit=True)
    changed = change_weights(engine_bundle)
    plan = json.loads(old.plan.read_bytes())
    plan["weights"]["of another model"] = ["float32", 1, None]
    old.plan.write_text(json.dumps(plan))
    file = FileRecord(old.plan.stat().st_size, file_sha256(old.plan))
    record = msgspec.structs.replace(old.record, plan=file)
    old.plan.with_suffix(".json").write_bytes(msgspec.json.encode(record))
    (done,) = refit_engines(changed, here)
    assert "of another model" in done.why_not
    assert [engine.plan for engine in find_engines(changed)] == [old.plan]


def test_the_command(engine_bundle: Path, here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    old = engine_of(engine_bundle, refit=True)
    monkeypatch.setattr("magvit_runtime.hardware.machine.Machine", lambda: here)
    outcome = refit(engine_bundle)
    assert (
        outcome.text == f"{old.plan.name}: left as it is, it has the weights of the bundle's graph"
    )
    new = change_weights(engine_bundle)
    outcome = refit(engine_bundle)
    (facts,) = outcome.facts["engines"]
    (engine,) = find_engines(new)
    assert (facts["engine"], facts["plan"]) == (old.plan.name, str(engine.plan))
    assert outcome.text.startswith(f"{old.plan.name}: refitted as {engine.plan.name}; not tried")
    shutil.rmtree(engine_bundle / "engines")
    assert refit(engine_bundle).text == f"{engine_bundle} has no engines"
