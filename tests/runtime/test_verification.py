"""The comparison of engines, on stand-ins for them: which run, which batches, what is stamped."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from known_profiles import profile_of

from magvit_runtime import BackendError, BundleError, Tokenizer, bits_to_ids, open_bundle
from magvit_runtime.bundle import Bundle, graph_sha256
from magvit_runtime.engines.finding import Engine, Mismatch
from magvit_runtime.engines.records import (
    ENGINE_SCHEMA_VERSION,
    EngineKey,
    EngineRecord,
)
from magvit_runtime.manifest import FileRecord
from magvit_runtime.sessions import Capabilities
from magvit_runtime.verification import verify_bundle
from magvit_runtime.verification_clips import CLIP_NAMES
from magvit_runtime.verification_references import Reference

CLIP = (3, 8, 8, 3)
SUBJECT = "engine.plan"


def stand_in_latents(frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[N, 18, T, H, W] of float64, by the position and the pixel."""
    n, t, h, w, _ = frames.shape
    noise = np.random.default_rng(0).standard_normal((18, t, h, w))
    return noise + frames[..., 0][:, None] / 255 - 0.5 + np.zeros((n, 1, 1, 1, 1))


class StandInSession:
    """Gives the reference's latents in float16; fails on a batch above `largest`."""

    capabilities = Capabilities("tensorrt", "1", "a GPU", "fp32", 0, "")

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.batches: list[int] = []

    def run(
        self, inputs: Mapping[str, np.ndarray[Any, Any]], outputs: Sequence[str]
    ) -> list[np.ndarray[Any, Any]]:
        assert outputs == ["ids", "latents"]
        (frames,) = inputs.values()
        self.batches.append(len(frames))
        if len(frames) > self.largest:
            raise BackendError("out of memory")
        latents = stand_in_latents(frames).astype(np.float32)
        return [bits_to_ids(np.moveaxis(latents > 0, 1, -1)), latents]

    def close(self) -> None:
        pass


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle with an engine of its float32 graph, for batches of 2 to 4."""
    # The graph itself is no stand-in and has no stand-in's latents.
    monkeypatch.setattr("magvit_runtime.verification_candidates.GRAPH_BACKENDS", ("onnxruntime",))
    path = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    opened = open_bundle(path)
    (path / "engines").mkdir()
    plan = path / "engines" / SUBJECT
    plan.write_bytes(b"plan")
    key = EngineKey(
        role="encode",
        flavour="tensorrt",
        version="1",
        cuda="13",
        sms=("8.9",),
        gpu=None,
        precision="fp32",
        profiles=(profile_of(2, 2, 4, CLIP),),
        onnx_sha256=graph_sha256(opened, opened.graphs("encode")["fp32"]),
        plugin_interface=None,
        options={},
    )
    digest = hashlib.sha256(b"plan").hexdigest()
    record = EngineRecord(
        ENGINE_SCHEMA_VERSION, key, FileRecord(4, digest), (), {}, None, 1.0, "here", "today"
    )
    plan.with_suffix(".json").write_bytes(msgspec.json.encode(record))
    return opened


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> StandInSession:
    """What every engine opens as, on a machine that fits it."""
    session = StandInSession(largest=4)

    def open_engine(engine: Engine, reason: str, *, workers: int | None = None) -> Any:
        assert engine.plan.name == SUBJECT
        assert reason
        assert workers is None
        return session

    for module in ("verification_candidates", "engines.finding"):
        monkeypatch.setattr(f"magvit_runtime.{module}.first_mismatch", lambda *_: None)
    for module in ("verification_candidates", "sessions.selection"):
        monkeypatch.setattr(f"magvit_runtime.{module}.open_engine", open_engine)
    return session


REFERENCE = Reference(
    "a stand-in",
    lambda frames: {"latents": stand_in_latents(frames)},
    {"stand-in": "1"},
    "onnxruntime fp32",
)


def test_an_engine_is_run_at_the_batches_of_its_profile(
    bundle: Bundle, session: StandInSession
) -> None:
    result = verify_bundle(bundle, REFERENCE, batch_sizes=(1, 2, 4, 8))
    assert result.passed
    assert session.batches == [2] * 3 + [4] * 2
    stamp = open_bundle(bundle.path).manifest.stamps[f"encode {SUBJECT}"]
    assert stamp.batch_sizes == (2, 4)
    assert stamp.sha256 == hashlib.sha256(b"plan").hexdigest()
    assert stamp.versions["stand-in"] == stamp.versions["tensorrt"] == "1"
    assert stamp.metrics.tokens == 2 * len(CLIP_NAMES) * 3 * 8 * 8


def test_by_default_those_are_the_smallest_best_and_largest(
    bundle: Bundle, session: StandInSession
) -> None:
    assert verify_bundle(bundle, REFERENCE).passed
    assert session.batches == [2] * 3 + [4] * 2
    assert open_bundle(bundle.path).manifest.stamps[f"encode {SUBJECT}"].batch_sizes == (2, 4)


def test_one_that_takes_no_such_batch_runs_its_smallest(
    bundle: Bundle, session: StandInSession
) -> None:
    verify_bundle(bundle, REFERENCE, batch_sizes=(1,))
    assert set(session.batches) == {2}


def test_an_engine_that_fails_in_a_run_fails(bundle: Bundle, session: StandInSession) -> None:
    verify_bundle(bundle, REFERENCE)
    session.largest = 1
    result = verify_bundle(bundle, REFERENCE)
    (verdict,) = (verdict for verdict in result.verdicts if verdict.subject == SUBJECT)
    assert (verdict.runs, verdict.passed, verdict.why) == (True, False, "out of memory")
    assert not result.passed
    assert open_bundle(bundle.path).manifest.stamps == {}


def test_an_engine_of_another_machine_is_no_failure_and_no_proof(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    mismatch = Mismatch("GPU", "NVIDIA L4", "none")
    monkeypatch.setattr(
        "magvit_runtime.verification_candidates.first_mismatch", lambda *_: mismatch
    )
    result = verify_bundle(bundle, REFERENCE)
    (verdict,) = (verdict for verdict in result.verdicts if verdict.subject == SUBJECT)
    assert (verdict.runs, verdict.why) == (False, "GPU: built for NVIDIA L4, here none")
    assert not result.passed
    assert open_bundle(bundle.path).manifest.stamps == {}


@pytest.mark.usefixtures("session")
def test_parity_required_of_an_engine_is_that_of_its_plan(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"engine\.plan of .* has no parity stamp"):
        Tokenizer.open(bundle.path, require_parity=True)
    verify_bundle(bundle, REFERENCE)
    with Tokenizer.open(bundle.path, require_parity=True) as tokenizer:
        assert tokenizer.capabilities.backend == "tensorrt"
    sidecar = bundle.path / "engines" / "engine.json"
    record = json.loads(sidecar.read_text())
    record["plan"]["sha256"] = "0" * 64
    sidecar.write_text(json.dumps(record))
    with pytest.raises(BundleError, match="has changed since its parity stamp"):
        Tokenizer.open(bundle.path, require_parity=True)
