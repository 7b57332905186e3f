"""The comparison of engines on stand-ins: which run, with which batches, and the stamps."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from magvit_runtime import BackendError, BundleError, Tokenizer, bits_to_ids, open_bundle
from magvit_runtime.backends.backend import Candidate, Capabilities, Unfit
from magvit_runtime.backends.candidates import Candidates, list_candidates
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.clips.samples import CLIP_NAMES
from magvit_runtime.hardware.cpu import usable_cpus
from magvit_runtime.verification.item_sets import Items
from magvit_runtime.verification.references import Clips, Reference
from magvit_runtime.verification.times import item_flop
from magvit_runtime.verification.verifying import verify_bundle

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
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def engine_of(bundle: Bundle, session: StandInSession, plan: bytes = b"plan") -> Candidate:
    """An engine that takes batches of 2 to 4."""
    _, graph = bundle.graph("encode", "fp32")
    return Candidate(
        subject=SUBJECT,
        role="encode",
        backend="tensorrt",
        precision="fp32",
        device="cuda",
        sha256=hashlib.sha256(plan).hexdigest(),
        graph=graph,
        rank=0,
        reason="a stand-in",
        clip_shape=CLIP,
        batches=range(2, 5),
        usual_batches=(2, 4),
        is_engine=True,
        check=lambda: None,
        open=lambda _: session,
    )


@pytest.fixture
def session(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> StandInSession:
    """What the only engine opens as.

    The graph in ONNX Runtime is there too. It is no stand-in, and has no stand-in's latents.
    """
    session = StandInSession(largest=4)
    show(monkeypatch, fit=(engine_of(bundle, session),))
    return session


def show(
    monkeypatch: pytest.MonkeyPatch, fit: tuple[Candidate, ...] = (), unfit: tuple[Unfit, ...] = ()
) -> None:
    """Lets openings and verification see these, and the graph in ONNX Runtime."""

    def listed(bundle: Bundle, role: Role = "encode", *_: object) -> Candidates:
        graphs = list_candidates(bundle, role).of("onnxruntime").fit
        return Candidates((*fit, *graphs), unfit)

    for module in ("verification.verifying", "backends.opening"):
        monkeypatch.setattr(f"magvit_runtime.{module}.list_candidates", listed)


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
    why = "GPU: built for NVIDIA L4, here none"
    unfit = Unfit(SUBJECT, "encode", "tensorrt", "fp32", why, "magvit build", is_engine=True)
    show(monkeypatch, unfit=(unfit,))
    result = verify_bundle(bundle, REFERENCE)
    (verdict,) = (verdict for verdict in result.verdicts if verdict.subject == SUBJECT)
    assert (verdict.runs, verdict.why) == (False, "GPU: built for NVIDIA L4, here none")
    assert not result.passed
    assert open_bundle(bundle.path).manifest.stamps == {}


def test_parity_required_of_an_engine_is_that_of_its_plan(
    bundle: Bundle, session: StandInSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleError, match=r"engine\.plan of .* has no parity stamp"):
        Tokenizer.open(bundle.path, require_parity=True)
    verify_bundle(bundle, REFERENCE)
    with Tokenizer.open(bundle.path, require_parity=True) as tokenizer:
        assert tokenizer.capabilities.backend == "tensorrt"
    show(monkeypatch, fit=(engine_of(bundle, session, b"another plan"),))
    with pytest.raises(BundleError, match="has changed since its parity stamp"):
        Tokenizer.open(bundle.path, require_parity=True)


def test_large_items_are_few_and_one_at_a_time(
    bundle: Bundle, session: StandInSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in takes one size only, so what shows errors on flat clips is among them."""
    extra = []

    def further(shape: tuple[int, ...], few: bool) -> Iterator[Clips]:
        extra.append((shape, few))
        yield ("further",), np.ones((1, *shape), np.uint8)

    monkeypatch.setattr("magvit_runtime.verification.item_sets.LARGE_FLOP", 1.0)
    result = verify_bundle(bundle, REFERENCE, extra=further)
    assert result.passed
    assert session.batches == [2, 2]  # Drawn and grey; the further clip.
    assert set(extra) == {(CLIP, True)}
    verify_bundle(bundle, REFERENCE, extra=further, batch_sizes=(2, 4))
    assert session.batches[2:] == [2, 4, 2, 4]  # Whoever names sizes gets them.
    extra.clear()
    verify_bundle(bundle, REFERENCE, extra=further, thorough=True)
    assert session.batches[6:] == [2] * 3 + [4] * 2 + [2, 4]
    assert set(extra) == {(CLIP, False)}


def test_graphs_of_any_size_run_all_items_at_the_odd_one(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (candidate,) = (
        found for found in list_candidates(bundle).fit if found.subject == "onnxruntime fp32"
    )
    items = Items(candidate.graph.inputs[0], REFERENCE, None, None, thorough=False)
    usual, odd = items.sets(candidate)
    assert (usual.few, usual.sizes) == (None, (1, 2))
    monkeypatch.setattr("magvit_runtime.verification.item_sets.LARGE_FLOP", 1.0)
    few, same = items.sets(candidate)
    assert (few.shape, few.few, few.sizes) == (usual.shape, (0,), (1,))
    assert same == odd
    assert [names for names, _ in items.parts(few)] == [CLIP_NAMES[:1]]
    assert [names for names, _ in items.parts(odd)] == [CLIP_NAMES]


@pytest.mark.usefixtures("session")
def test_the_estimate_is_what_is_told_as_done(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magvit_runtime.verification.times.BACKEND_SPEEDS", {"tensorrt": 1e6})
    reference = replace(REFERENCE, seconds=lambda items: 100.0 * len(items))
    told: list[float] = []
    verify_bundle(bundle, reference, start=told.append, advance=told.append)
    estimated, *done = told
    assert estimated == pytest.approx(sum(done))
    assert done[: len(CLIP_NAMES)] == [100.0] * len(CLIP_NAMES)
    flop = item_flop(bundle.graph("encode", "fp32")[1], CLIP)
    assert flop is not None
    each = flop / 1e6 / usable_cpus()
    assert estimated == pytest.approx(len(CLIP_NAMES) * (100 + 2 * each))
