"""Engines as models of Triton's own TensorRT: which, and their configuration. No engine runs."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from known_profiles import profile_of
from runtime.triton_config import config

from magvit_runtime import open_bundle
from magvit_runtime.bundle.engine_records import ENGINE_SCHEMA_VERSION, EngineKey, EngineRecord
from magvit_runtime.bundle.manifest import FileRecord
from magvit_runtime.bundle.reading import graph_sha256
from magvit_runtime.cli.triton import triton
from magvit_runtime.native_libraries.lookup import LIBRARY_DIR_VARIABLE

CLIP = (3, 16, 24, 3)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def put_engine(bundle: Path, sm: str, **changes: Any) -> str:
    """An engine of the encoder's graph, of no use to any TensorRT; gives its file's name."""
    opened = open_bundle(bundle)
    _, graph = opened.graph("encode")
    facts: dict[str, Any] = {
        "role": "encode",
        "flavour": "tensorrt",
        "version": "10.13.0.1",
        "cuda": "13",
        "sms": (sm,),
        "gpu": None,
        "precision": "fp32",
        "profiles": (profile_of(1, 4, 16, CLIP), profile_of(1, 1, 1, CLIP)),
        "onnx_sha256": graph_sha256(opened, graph),
        "plugin_interface": None,
        "options": {},
    }
    key = EngineKey(**facts | changes)
    plan = bundle / "engines" / f"{key.name}.plan"
    plan.parent.mkdir(exist_ok=True)
    plan.write_bytes(key.name.encode())
    record = EngineRecord(
        schema_version=ENGINE_SCHEMA_VERSION,
        key=key,
        plan=FileRecord(plan.stat().st_size, hashlib.sha256(plan.read_bytes()).hexdigest()),
        layers=(),
        plugin_layers={},
        plugin_sha256=None,
        build_seconds=1.0,
        machine="a test",
        created="2026-11-27T00:00:00+00:00",
    )
    plan.with_suffix(".json").write_bytes(msgspec.json.encode(record))
    return plan.name


def test_engines_for_several_gpus_are_one_model(bundle: Path, tmp_path: Path) -> None:
    plans = {sm: put_engine(bundle, sm) for sm in ("8.9", "9.0")}
    outcome = triton(bundle, output=tmp_path / "r", device="gpu", instances=2)
    found = config(tmp_path / "r", "tokenizer_plan_fp32")
    assert (found.platform, found.max_batch_size) == ("tensorrt_plan", 16)
    assert dict(found.cc_model_filenames) == plans
    assert (found.instance_group[0].kind, found.instance_group[0].count) == (1, 2)
    assert list(found.instance_group[0].profile) == ["0", "1"]
    assert list(found.dynamic_batching.preferred_batch_size) == [4, 16]
    (warm_up,) = found.model_warmup
    assert warm_up.batch_size == 4
    assert list(warm_up.inputs["frames"].dims) == list(CLIP)
    for plan in plans.values():
        assert (tmp_path / "r" / "tokenizer_plan_fp32" / "1" / plan).read_bytes()
    assert "tokenizer_plan_fp32: tensorrt_plan, batches of up to 16; needs TensorRT 10.13.0.1" in (
        outcome.text
    )
    # The Python backend takes batches of the engines' sizes too, and has them with it.
    python = config(tmp_path / "r", "tokenizer")
    assert list(python.dynamic_batching.preferred_batch_size) == [4, 16]
    assert {path.name for path in (tmp_path / "r" / "tokenizer/bundle/engines").iterdir()} >= set(
        plans.values()
    )


def test_a_second_engine_for_a_gpu_is_a_second_model(bundle: Path, tmp_path: Path) -> None:
    put_engine(bundle, "8.9")
    put_engine(bundle, "8.9", profiles=(profile_of(4, 4, 4, CLIP),))
    triton(bundle, output=tmp_path / "r", device="gpu")
    names = [path.name for path in (tmp_path / "r").glob("*_plan_*")]
    assert sorted(names) == ["tokenizer_plan_fp32", "tokenizer_plan_fp32_2"]
    sizes = {config(tmp_path / "r", name).max_batch_size for name in names}
    assert sizes == {16, 0}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"flavour": "tensorrt-rtx"}, "Triton has no tensorrt-rtx"),
        ({"onnx_sha256": "0" * 64}, "it was built of another graph"),
        ({"options": {"strip_weights": True}}, "it has no weights"),
    ],
)
def test_engines_that_triton_cant_run_are_left_out(
    bundle: Path, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    plan = put_engine(bundle, "8.9", **changes)
    outcome = triton(bundle, output=tmp_path / "r", device="gpu")
    assert f"left out: {plan} as tensorrt_plan: {why}" in outcome.text
    assert not list((tmp_path / "r").glob("*_plan_*"))


def test_plugins_go_along_with_what_calls_them(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_engine(bundle, "8.9", plugin_interface=1)
    monkeypatch.setenv(LIBRARY_DIR_VARIABLE, str(tmp_path))
    outcome = triton(bundle, output=tmp_path / "without", device="gpu")
    assert "tokenizer_plan_fp32 calls our plugins, whose libraries aren't both here" in outcome.text
    assert not list((tmp_path / "without").glob("*_plan_*"))
    for name in ("libmagvit_plugins.so", "libmagvit_plugins_autoload.so"):
        (tmp_path / name).write_bytes(name.encode())
    command = triton(bundle, output=tmp_path / "r", device="gpu").facts["command"]
    library = tmp_path / "r" / "tokenizer_plan_fp32" / "libmagvit_plugins_autoload.so"
    assert command.endswith(f" --backend-config=tensorrt,plugins={library}")
    assert library.read_bytes() == library.name.encode()
    assert library.with_name("libmagvit_plugins.so").is_file()


def test_a_cpu_has_no_use_for_engines(bundle: Path, tmp_path: Path) -> None:
    put_engine(bundle, "8.9")
    triton(bundle, output=tmp_path / "r")
    assert not list((tmp_path / "r").glob("*_plan_*"))
