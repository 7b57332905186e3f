"""`magvit verify`: references, stamps, exit codes, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import numpy as np
import pytest
from runtime.reports.html_reading import outward_references, read_html
from seeded_checkpoints import TINY, published_tensors, write_checkpoint

from magvit_export.bundle_writer import file_records
from magvit_export.catalog import find_model
from magvit_export.checkpoints.reading import CheckpointError
from magvit_export.cli.verify import verify
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_export.verification.clips import MOVEMENTS
from magvit_runtime import BundleError, Detokenizer, InputError, Tokenizer, open_bundle
from magvit_runtime.backends import candidates
from magvit_runtime.backends.onnx_runtime.backend import BACKEND as ONNX_RUNTIME
from magvit_runtime.bundle.manifest import Manifest, Precision
from magvit_runtime.clips.samples import CLIP_NAMES

MAGVIT = [sys.executable, "-c", "from magvit_runtime.cli.main import main; main()"]
HALF = "encode.fp16.data"
OUR_CLIPS = len(CLIP_NAMES) + MOVEMENTS


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "bundle"
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    for precision in precisions:
        export_model(
            find_model("trajectory-small"),
            path,
            weights="seeded",
            roles=["encode"],
            config=TINY,
            precision=precision,
            sizes=ClipSizes(frames=5, height=16, width=16),
        )
    return path


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    """float32 and float16, each for clips of 5 frames of 16 x 16 pixels."""
    return shutil.copytree(exported, tmp_path / "bundle")


def manifest_of(bundle: Path) -> Manifest:
    return open_bundle(bundle).manifest


def edit_manifest(bundle: Path, **changes: Any) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(manifest | changes))


def spoil(bundle: Path) -> None:
    """Changes half of the float16 weights, and the digest with them."""
    data = bundle / HALF
    weights = np.fromfile(data, np.float16)
    weights[: len(weights) // 2] *= 1.05
    weights.tofile(data)
    manifest = json.loads((bundle / "bundle.json").read_text())
    sha256 = file_records([data])[HALF].sha256
    files = manifest["files"] | {HALF: manifest["files"][HALF] | {"sha256": sha256}}
    edit_manifest(bundle, files=files)


def run(bundle: Path, *options: str) -> tuple[int, dict[str, Any]]:
    command = [*MAGVIT, "--json", "verify", str(bundle), *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode, json.loads(result.stdout or "null") or {"error": result.stderr}


@pytest.mark.slow
def test_a_sound_bundle_gets_its_stamps(bundle: Path) -> None:
    code, facts = run(bundle)
    assert code == 0
    assert facts["reference"].startswith("PyTorch float64, seeded weights")
    rows = {row["subject"]: row for row in facts["encoders"]}
    assert set(rows) == {"native fp32", "onnxruntime fp32", "onnxruntime fp16"}
    assert all(row["passed"] and row["wrong_ids"] == 0 for row in rows.values())
    assert rows["native fp32"]["rms"] < 5e-5
    assert rows["onnxruntime fp32"]["rms"] < 5e-5 < rows["onnxruntime fp16"]["rms"] < 8e-3
    assert set(facts["stamped"]) == set(rows)
    stamp = manifest_of(bundle).stamps["encode onnxruntime fp16"]
    assert stamp.metrics.rms == rows["onnxruntime fp16"]["rms"]
    assert stamp.batch_sizes == (1, 2)
    # Every clip was run at each of the batch sizes; this model keeps all frames.
    assert stamp.metrics.tokens == OUR_CLIPS * 2 * 5 * 8 * 8
    assert {"torch", "onnxruntime", "numpy", "magvit-runtime"} <= set(stamp.versions)
    assert stamp.reference == facts["reference"]


def test_without_weights_the_fp32_graph_is_the_reference(bundle: Path) -> None:
    code, facts = run(bundle, "--against", "fp32")
    assert code == 0
    rows = {row["subject"]: row for row in facts["encoders"]}
    assert set(rows) == {"native fp32", "onnxruntime fp16"}
    assert (rows["onnxruntime fp16"]["backend"], rows["onnxruntime fp16"]["passed"]) == (
        "onnxruntime",
        True,
    )
    assert set(manifest_of(bundle).stamps) == {f"encode {subject}" for subject in rows}


@pytest.mark.parametrize("missing", ["torch", "weights"])
def test_the_default_is_what_can_be_had(
    bundle: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing == "torch":
        monkeypatch.setattr("magvit_export.verification.references.find_spec", {}.get)
    else:
        claim_a_file(bundle)
    assert verify(bundle).facts["reference"] == "its own fp32 graph in ONNX Runtime"


def test_wrong_weights_disagree_and_lose_their_stamp(bundle: Path) -> None:
    """A digest shows that a file is unchanged; only tokens show that it is right."""
    assert verify(bundle, against="fp32").passed
    before = manifest_of(bundle).stamps
    spoil(bundle)
    code, facts = run(bundle, "--against", "fp32")
    assert code == 1
    assert facts["passed"] is False
    assert facts["stamped"] == []
    assert set(before) == {"encode native fp32", "encode onnxruntime fp16"}
    assert set(manifest_of(bundle).stamps) == {"encode native fp32"}


def test_one_that_fails_leaves_the_others_without_a_new_stamp(bundle: Path) -> None:
    spoil(bundle)
    outcome = verify(bundle, against="pytorch", batch_sizes="1")
    assert [row["passed"] for row in outcome.facts["encoders"]] == [True, True, False]
    assert "DISAGREES" in outcome.text
    assert manifest_of(bundle).stamps == {}


def test_a_changed_file_is_named(bundle: Path) -> None:
    with (bundle / HALF).open("r+b") as file:
        file.write(b"\x00\x00\x01\x01")
    code, facts = run(bundle, "--against", "fp32")
    assert code == 1
    assert f"{HALF} has changed since export" in facts["error"]


def test_nothing_compared_is_no_proof(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "installed_backends", lambda: (ONNX_RUNTIME,))
    encoders = json.loads((bundle / "bundle.json").read_text())["graphs"]["encode"]
    edit_manifest(bundle, graphs={"encode": {"fp32": encoders["fp32"]}})
    outcome = verify(bundle, against="fp32")
    assert not outcome.passed
    assert "nothing could be compared here" in outcome.text


def test_another_bundle_is_a_reference(bundle: Path, exported: Path) -> None:
    outcome = verify(bundle, against=str(exported))
    assert outcome.passed
    assert outcome.facts["reference"].startswith("fp32 graph of trajectory-small")
    assert len(outcome.facts["encoders"]) == 3


def test_a_bundle_of_other_tokens_is_none(bundle: Path, exported: Path, tmp_path: Path) -> None:
    other = shutil.copytree(exported, tmp_path / "other")
    tokens = json.loads((other / "bundle.json").read_text())["tokens"]
    edit_manifest(other, tokens=tokens | {"quantizer": tokens["quantizer"] | {"bits": 14}})
    with pytest.raises(InputError, match=r"the tokens of .*other are others than those of"):
        verify(bundle, against=str(other))


def test_a_reference_that_isnt_there(bundle: Path) -> None:
    with pytest.raises(InputError) as error:
        verify(bundle, against="fp23")
    assert str(error.value) == (
        "there is no reference 'fp23': expected pytorch, fp32, a bundle's directory, or an .npz "
        "file of latents"
    )


def test_golden_values_are_a_file(bundle: Path) -> None:
    with pytest.raises(InputError, match=r"Fix: .* --against tests/golden/video_small\.npz"):
        verify(bundle, against="golden")


def test_stored_latents_are_a_reference(small_bundle: Path, tmp_path: Path) -> None:
    """Golden values of the original implementation, on the weights that `seeded` generates."""
    bundle = shutil.copytree(small_bundle, tmp_path / "bundle")
    path = Path(__file__).parents[2] / "golden" / "video_small.npz"
    outcome = verify(bundle, against=str(path), batch_sizes="1")
    assert outcome.passed
    rows = outcome.facts["encoders"]
    assert [row["subject"] for row in rows] == ["native fp32", "onnxruntime fp32"]
    for row in rows:
        assert row["tokens"] == 64 + 128 + 225 + 640
        assert row["changed_tokens"] == 0
        assert row["max_latent_error"] <= 3e-4
    stamp = manifest_of(bundle).stamps["encode onnxruntime fp32"]
    assert stamp.reference.startswith("latents of raw weights in video_small.npz, sha256 ")


def test_stored_latents_are_of_their_own_clips(bundle: Path, tmp_path: Path) -> None:
    frames = np.random.default_rng(5).integers(0, 256, (3, 5, 16, 16, 3), np.uint8)
    with Tokenizer.open(bundle, precision="fp32") as tokenizer:
        latents = tokenizer.latents(frames)
    reference = tmp_path / "reference.npz"
    np.savez(reference, **{"a.x": frames[:2], "a.z_raw": latents[:2]})
    outcome = verify(bundle, against=str(reference), batch_sizes="1")
    assert outcome.passed
    assert [row["tokens"] for row in outcome.facts["encoders"]] == [2 * 5 * 8 * 8] * 3
    with pytest.raises(InputError, match="has latents of its own clips only: found --clips"):
        verify(bundle, against=str(reference), clips=tmp_path / "clips.npy")
    # Clips of a size that the graph doesn't take prove nothing about it.
    other = np.zeros((1, 5, 24, 16, 3), np.uint8)
    np.savez(reference, **{"a.x": other, "a.z_raw": np.ones((1, 18, 5, 12, 8), np.float32)})
    outcome = verify(bundle, against=str(reference))
    assert not outcome.passed
    assert "can't be compared here: the reference has no clips of [5, 16, 16, 3]" in outcome.text


def claim_a_file(bundle: Path) -> None:
    weights = {"source": "file", "name": "a.ckpt", "variant": "ema", "sha256": "0" * 64}
    components = json.loads((bundle / "bundle.json").read_text())["components"]
    edit_manifest(bundle, components={"magvit": components["magvit"] | {"weights": weights}})


def test_pytorch_asks_for_the_weights_of_a_file(bundle: Path) -> None:
    claim_a_file(bundle)
    with pytest.raises(InputError) as error:
        verify(bundle, against="pytorch")
    assert f"expected a.ckpt, sha256 {'0' * 64}" in str(error.value)
    assert str(error.value).endswith(f"magvit verify {bundle} --against pytorch --weights PATH")


def test_pytorch_takes_no_other_weights(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found seeded:1, expected seeded\."):
        verify(bundle, weights="seeded:1")
    claim_a_file(bundle)
    checkpoint = write_checkpoint(tmp_path / "other.ckpt", published_tensors(TINY))
    with pytest.raises(InputError, match=r"these aren't the weights that .* was made of"):
        verify(bundle, weights=str(checkpoint))


@pytest.mark.parametrize(
    ("content", "words"), [(b"other weights", "is text, no checkpoint"), (b"", "is empty")]
)
def test_pytorch_takes_no_file_without_weights(
    bundle: Path, tmp_path: Path, content: bytes, words: str
) -> None:
    claim_a_file(bundle)
    file = tmp_path / "other.ckpt"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        verify(bundle, weights=str(file))


def test_only_pytorch_takes_weights(bundle: Path) -> None:
    with pytest.raises(InputError, match="only PyTorch takes --weights"):
        verify(bundle, against="fp32", weights="seeded")


@pytest.mark.parametrize("sizes", ["0", "1,", "two", "1,-2"])
def test_batch_sizes_that_arent_any(bundle: Path, sizes: str) -> None:
    with pytest.raises(InputError, match="--batch-sizes can't be read"):
        verify(bundle, batch_sizes=sizes)


def test_the_users_clips_are_run_too(bundle: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (3, 5, 16, 16, 3), np.uint8)
    np.save(tmp_path / "clips.npy", noise)
    outcome = verify(bundle, against="fp32", clips=tmp_path / "clips.npy", batch_sizes="2")
    *_, half = outcome.facts["encoders"]
    assert half["tokens"] == (OUR_CLIPS + 3) * 5 * 8 * 8
    ours = verify(bundle, against="fp32", batch_sizes="2")
    assert half["rms"] != ours.facts["encoders"][-1]["rms"]


def test_what_a_video_leaves_out_is_said_once(bundle: Path, tmp_path: Path) -> None:
    from runtime.clips.videos import pictures, write_video  # Skips where PyAV isn't installed.

    video = write_video(tmp_path / "walk.mkv", pictures(13, 16, 16))
    outcome = verify(bundle, against="fp32", clips=video, batch_sizes="1")
    words = "13 frames read; the last 3 fill no clip and are left out"
    assert outcome.text.splitlines()[-1].startswith(words)
    assert outcome.facts["video"]["left_out"] == 3


@pytest.mark.parametrize("name", ["nan", "missing.csv", ""])
def test_clips_that_cant_be_read_are_refused_before_the_work(
    bundle: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magvit_export.cli.verify.verify_bundle", None)
    with pytest.raises(InputError, match=r"is of an unknown kind|can't be opened or read"):
        verify(bundle, against="fp32", clips=tmp_path / name)


def test_trajectories_are_drawn_at_the_models_size(bundle: Path, tmp_path: Path) -> None:
    rows = "".join(f"{name},{i},{i * i}\n" for name in "ab" for i in range(9))
    (tmp_path / "clips.csv").write_text("id,x,y\n" + rows + "c,0,nonsense\n")
    outcome = verify(bundle, against="fp32", clips=tmp_path / "clips.csv", batch_sizes="1")
    for row in outcome.facts["encoders"]:
        assert row["tokens"] == (OUR_CLIPS + 2) * 5 * 8 * 8
    assert outcome.passed


def test_clips_of_another_size_are_refused(bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "clips.npy", np.zeros((1, 5, 24, 16, 3), np.uint8))
    with pytest.raises(InputError, match="the clips don't fit this model"):
        verify(bundle, against="fp32", clips=tmp_path / "clips.npy")


def test_a_fixed_batch_and_free_frames(tmp_path: Path) -> None:
    """The batch is the graph's own, and clips come in an odd number of frames too."""
    path = tmp_path / "bundle"
    sizes = ClipSizes(batch=4, height=16, width=16)
    entry = find_model("trajectory-small")
    export_model(entry, path, weights="seeded", roles=["encode"], config=TINY, sizes=sizes)
    outcome = verify(path, batch_sizes="1,2")
    assert outcome.passed
    stamp = manifest_of(path).stamps["encode onnxruntime fp32"]
    assert stamp.batch_sizes == (4,)
    assert stamp.metrics.tokens == (OUR_CLIPS * 17 + len(CLIP_NAMES) * 7) * 8 * 8


def test_a_bundle_that_cant_be_written_can_be_verified(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = Mock(side_effect=InputError("can't write it", found="Read-only file system"))
    monkeypatch.setattr("magvit_runtime.bundle.stamps.write_manifest", refuse)
    outcome = verify(bundle, against="fp32")
    assert outcome.passed
    assert "no parity stamp: can't write" in outcome.text
    assert outcome.facts["stamped"] == ()


def test_parity_can_be_required(bundle: Path) -> None:
    clips = np.zeros((1, 5, 16, 16, 3), np.uint8)
    with pytest.raises(BundleError) as error:
        Tokenizer.open(bundle, precision="fp16", require_parity=True)
    assert str(error.value) == (
        f"onnxruntime fp16 of {bundle} has no parity stamp. Fix: magvit verify {bundle}"
    )
    verify(bundle, against="fp32")
    with (
        Tokenizer.open(bundle, precision="fp16", require_parity=True) as proven,
        Tokenizer.open(bundle, precision="fp16") as same,
    ):
        np.testing.assert_array_equal(proven(clips), same(clips))
    # The float32 graph was the reference, so nothing is known about it.
    with pytest.raises(BundleError, match=r"onnxruntime fp32 of .* has no parity stamp"):
        Tokenizer.open(bundle, backend="onnxruntime", require_parity=True)
    with Tokenizer.open(bundle, require_parity=True) as native:
        assert native.capabilities.backend == "native"


def test_a_stamp_is_of_the_bytes_that_passed(bundle: Path) -> None:
    verify(bundle, against="fp32")
    spoil(bundle)
    with Tokenizer.open(bundle, precision="fp16"):
        pass
    with pytest.raises(BundleError, match="has changed since its parity stamp: found sha256"):
        Tokenizer.open(bundle, precision="fp16", require_parity=True)


def test_an_export_keeps_the_stamps_of_other_graphs(bundle: Path) -> None:
    verify(bundle, against="fp32")
    before = manifest_of(bundle).stamps
    entry, sizes = find_model("trajectory-small"), ClipSizes(frames=5, height=16, width=16)
    export_model(entry, bundle, weights="seeded", roles=["encode"], config=TINY, sizes=sizes)
    assert manifest_of(bundle).stamps == before


def test_a_report_says_what_the_outcome_says(bundle: Path, tmp_path: Path) -> None:
    spoil(bundle)
    report = tmp_path / "new" / "report.html"
    outcome = verify(bundle, against="fp32", batch_sizes="1", report=report)
    assert not outcome.passed
    assert f"report: {report}" in outcome.text
    _, row = outcome.facts["encoders"]
    document = read_html(report.read_text(encoding="utf-8"))
    assert outward_references(document) == []
    cells = [cell.text for cell in document.find("td")]
    half = cells.index("onnxruntime fp16")
    assert cells[half : half + 4] == ["onnxruntime fp16", "fp16", "disagrees", f"{row['rms']:.1e}"]
    assert f"{row['changed_tokens']:,} of {row['tokens']:,}" in cells


def test_a_report_that_cant_be_written_is_refused_before_the_work(
    bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't write"):
        verify(bundle, against="fp32", report=tmp_path / "file" / "report.html")
    assert manifest_of(bundle).stamps == {}


def test_decoders_agree_in_levels(tiny_bundle: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    entry = find_model("trajectory-small")
    export_model(entry, path, weights="seeded", roles=["decode"], config=TINY, precision="fp16")
    with pytest.raises(BundleError, match=r"no parity stamp.*verify .* --role decode"):
        Detokenizer.open(path, require_parity=True)
    report = tmp_path / "report.html"
    outcome = verify(path, role="decode", batch_sizes="1,2", report=report)
    assert outcome.passed
    assert (
        outcome.facts["reference"] == "PyTorch float64, seeded weights (generated, never trained)"
    )
    rows = {row["subject"]: row for row in outcome.facts["encoders"]}
    assert rows.keys() == {"onnxruntime fp32", "native fp32", "onnxruntime fp16"}
    assert all(row["max"] <= 1 for name, row in rows.items() if name.endswith("fp32"))
    assert 0 < rows["onnxruntime fp16"]["rms"] < 1
    assert rows["native fp32"]["batch_sizes"] == (1, 2)
    assert "max |e|" in report.read_text(encoding="utf-8")
    Detokenizer.open(path, require_parity=True).close()
    with pytest.raises(BundleError, match="no parity stamp"):
        Tokenizer.open(path, require_parity=True)


def test_wrong_weights_of_a_decoder_are_seen(tiny_bundle: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    other = export_model(
        find_model("trajectory-small"),
        tmp_path / "other",
        weights="seeded:1",
        roles=["decode"],
        config=TINY,
    )
    for name in other.manifest.files:
        shutil.copy(other.path / name, path / name)
    files = manifest_of(path).files | other.manifest.files
    edit_manifest(path, files=msgspec.to_builtins(files))
    outcome = verify(path, role="decode", batch_sizes="1")
    assert not outcome.passed
    assert "DISAGREES" in outcome.text


@pytest.mark.parametrize(
    "options", [{"bisect": True}, {"clips": Path("clips.npy")}], ids=["bisect", "clips"]
)
def test_what_is_for_encoders_only(tiny_bundle: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="only encoders can be bisected, and only they and"):
        verify(tiny_bundle, role="decode", **options)
