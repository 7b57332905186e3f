"""Canaries: a session that isn't the model is found by one run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from magvit_export.bundle_writer import file_records
from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_runtime import BackendError, BundleError, Tokenizer, open_bundle
from magvit_runtime.backends.backend import Capabilities, Opening, Session
from magvit_runtime.backends.canary import run_canary
from magvit_runtime.backends.candidates import Candidates, list_candidates
from magvit_runtime.bundle import canary
from magvit_runtime.bundle.canary import CanaryItem, read_canary, write_canary
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.cli.doctor import doctor
from magvit_runtime.verification.references import graph_reference
from magvit_runtime.verification.verifying import verify_bundle

Array = np.ndarray[Any, Any]
Change = Callable[[dict[str, Array]], None]


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both precisions of clips of 5 x 16 x 24 pixels, verified against another export."""
    from seeded_checkpoints import TINY

    entry = find_model("trajectory-small")
    sizes = ClipSizes(frames=5, height=16, width=24)
    paths = [tmp_path_factory.mktemp("canary") / name for name in ("bundle", "reference")]
    for path in paths:
        export_model(entry, path, weights="seeded", roles=["encode"], config=TINY, sizes=sizes)
    export_model(
        entry,
        paths[0],
        weights="seeded",
        roles=["encode"],
        config=TINY,
        sizes=sizes,
        precision="fp16",
    )
    reference = graph_reference(open_bundle(paths[1]), "another export")
    assert verify_bundle(open_bundle(paths[0]), reference, batch_sizes=(1,)).canary
    return paths[0]


@pytest.fixture
def bundle(verified: Path, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(verified, tmp_path / "bundle"))


def test_verify_keeps_what_the_reference_gave(bundle: Bundle) -> None:
    record = bundle.manifest.canaries["encode"]
    assert record.reference == "another export"
    assert record.items == ("drawn 5×16×24×3",)
    assert bundle.manifest.files[record.file].size <= canary.CANARY_BYTES
    (item,) = read_canary(bundle, "encode")
    assert item.given.shape == (1, 5, 16, 24, 3)
    assert item.given.any()
    assert item.outputs["latents"].dtype == np.float32


@pytest.mark.parametrize("backend", ["native", "onnxruntime"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_model_passes(bundle: Bundle, backend: str, precision: Any) -> None:
    if (backend, precision) == ("native", "fp16"):
        pytest.skip("the native backend computes in float32 on a CPU")
    with Tokenizer.open(
        bundle.path, backend=backend, precision=precision, canary=True
    ) as tokenizer:
        (item,) = read_canary(bundle, "encode")
        assert tokenizer(item.given).shape == (1, 5, 8, 12)


def test_weights_that_were_swapped_behind_their_digest_are_found(bundle: Bundle) -> None:
    """Digests are right again: only what the model gives shows that it is another."""
    manifest = json.loads((bundle.path / "bundle.json").read_text())
    for name in [name for name in manifest["files"] if name.endswith(".data")]:
        path = bundle.path / name
        kind = np.float16 if "fp16" in name else np.float32
        weights = np.fromfile(path, kind)
        weights[: len(weights) // 3] *= kind(1.1)
        weights.tofile(path)
        (record,) = file_records([path]).values()
        manifest["files"][name] = {"size": record.size, "sha256": record.sha256}
    (bundle.path / "bundle.json").write_text(json.dumps(manifest))
    Tokenizer.open(bundle.path).close()
    with pytest.raises(BackendError, match=r"doesn't give what .* must give.*canary 'drawn"):
        Tokenizer.open(bundle.path, canary=True)


class Changed:
    """A session whose outputs something changes, as a damaged GPU may."""

    def __init__(self, session: Session, change: Change) -> None:
        self.session, self.change = session, change
        self.closed = False

    @property
    def capabilities(self) -> Capabilities:
        return self.session.capabilities

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        found = dict(zip(outputs, self.session.run(inputs, outputs), strict=True))
        self.change(found)
        return [found[name] for name in outputs]

    def close(self) -> None:
        self.closed = True
        self.session.close()


def flipped_sign(found: dict[str, Array]) -> None:
    """Of the latent that is furthest from zero, with its bit."""
    place = np.unravel_index(np.abs(found["latents"]).argmax(), found["latents"].shape)
    found["latents"][place] *= -1
    found["ids"][(place[0], *place[2:])] ^= 1 << int(place[1])


def another_id(found: dict[str, Array]) -> None:
    found["ids"].flat[3] ^= 1 << 17


def not_a_number(found: dict[str, Array]) -> None:
    found["latents"][..., 0] = np.nan


@pytest.mark.parametrize("change", [flipped_sign, another_id, not_a_number])
def test_a_session_that_gives_something_else_is_refused(bundle: Bundle, change: Change) -> None:
    candidate = list_candidates(bundle).fit[0]
    session = candidate.open(Opening("tried"))
    digest = run_canary(bundle, candidate, session)
    assert digest == run_canary(bundle, candidate, Changed(session, lambda _: None))  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="doesn't give what"):
        run_canary(bundle, candidate, Changed(session, change))  # type: ignore[arg-type]
    session.close()


def test_a_refused_session_is_closed_and_the_next_one_taken(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = list_candidates(bundle).for_precision("fp32", any_engine=True).fit
    wrong = Changed(first.open(Opening("")), flipped_sign)
    spoiled = replace(first, open=lambda _: wrong, is_engine=True)  # type: ignore[arg-type,return-value]
    listed = Candidates((spoiled, *others), ())
    monkeypatch.setattr("magvit_runtime.backends.opening.list_candidates", lambda *_: listed)
    with Tokenizer.open(bundle.path, canary=True) as tokenizer:
        assert tokenizer.capabilities.backend == others[0].backend
        assert "doesn't give what" in tokenizer.capabilities.reason
    assert wrong.closed
    with Tokenizer.open(bundle.path) as tokenizer:  # Nobody asked, and nothing has changed.
        assert tokenizer.capabilities.backend == first.backend


def test_an_engine_whose_plugins_changed_is_tried_unasked(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = list_candidates(bundle).fit
    wrong = Changed(first.open(Opening("")), flipped_sign)
    changed = replace(first, open=lambda _: wrong, has_changed=True)  # type: ignore[arg-type,return-value]
    found = Candidates((changed,), ())
    monkeypatch.setattr("magvit_runtime.backends.opening.list_candidates", lambda *_: found)
    with pytest.raises(BackendError, match="doesn't give what"):
        Tokenizer.open(bundle.path)


def test_bundles_without_one_say_how_to_get_one(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"has no canary for encode.*magvit verify"):
        Tokenizer.open(tiny_bundle, canary=True)


def test_a_canary_of_other_sizes_doesnt_do(bundle: Bundle) -> None:
    candidate = replace(list_candidates(bundle).fit[0], clip_shape=(9, 16, 24, 3))
    with pytest.raises(BundleError, match=r"no canary of .* fits"):
        run_canary(bundle, candidate, candidate.open(Opening("")))


def test_a_changed_or_malformed_canary_is_refused(bundle: Bundle) -> None:
    path = bundle.path / bundle.manifest.canaries["encode"].file
    path.write_bytes(b"no npz" * 9)
    with pytest.raises(BundleError, match="has changed since export"):
        Tokenizer.open(bundle.path, canary=True)
    manifest = json.loads((bundle.path / "bundle.json").read_text())
    (record,) = file_records([path]).values()
    manifest["files"][path.name] = {"size": record.size, "sha256": record.sha256}
    (bundle.path / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="holds no canary"):
        Tokenizer.open(bundle.path, canary=True)


def test_items_that_have_no_room_are_left_out(bundle: Bundle) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 9, 200, 200, 3), np.uint8)
    small = CanaryItem("small", noise[:, :2, :9, :9], {"latents": np.ones((1, 18, 2, 3, 3))})
    large = CanaryItem("large", noise, {"latents": np.ones((1, 18, 2, 3, 3))})
    assert write_canary(bundle, "encode", [large, small], "a test")
    again = open_bundle(bundle.path)
    assert again.manifest.canaries["encode"].items == ("small",)
    assert not write_canary(bundle, "encode", [large], "a test")
    assert open_bundle(bundle.path).manifest == again.manifest


def test_a_bundles_own_graph_replaces_no_better_reference(bundle: Bundle) -> None:
    own = graph_reference(bundle, "its own", subject="onnxruntime fp32")
    assert not verify_bundle(bundle, own, batch_sizes=(1,)).canary
    assert open_bundle(bundle.path).manifest.canaries["encode"].reference == "another export"


def test_the_doctor_runs_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = doctor(bundle.path, run=True)
    assert outcome.passed
    assert outcome.text.count("agrees with the canary") == 3
    ways = {way["subject"]: way for way in outcome.facts["ways"]}
    assert ways["native fp32"]["outputs"] == ways["onnxruntime fp32"]["outputs"]

    def listed(bundle: Bundle, role: Role, *_: object) -> Candidates:
        found = list_candidates(bundle, role)
        return replace(
            found,
            fit=tuple(
                replace(one, open=lambda _, one=one: Changed(one.open(Opening("")), flipped_sign))  # type: ignore[misc]
                for one in found.fit
            ),
        )

    monkeypatch.setattr("magvit_runtime.doctor.diagnosis.list_candidates", listed)
    outcome = doctor(bundle.path, run=True)
    assert not outcome.passed
    assert outcome.text.count("doesn't give what") == 3
