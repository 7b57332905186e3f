"""tuning.json: `magvit tune` writes it, and "auto" reads it."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from magvit_runtime import (
    BackendError,
    BundleError,
    Detokenizer,
    InputError,
    Tokenizer,
    open_bundle,
)
from magvit_runtime.backends.native.cpu.session import CpuSession
from magvit_runtime.bundle.reading import graph_sha256
from magvit_runtime.bundle.tuning_file import (
    TUNING_FILE,
    MachineTuning,
    TunedOption,
    machine_name,
    read_tuning,
    write_tuning,
)
from magvit_runtime.cli.tune import tune

CLIPS = (5, 16, 24, 3)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    path = tmp_path / "clips.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (6, *CLIPS), np.uint8))
    return path


def write(bundle: Path, seconds: Mapping[str, float], sha256: str = "") -> None:
    opened = open_bundle(bundle)
    digest = sha256 or graph_sha256(opened, opened.graph("encode")[1])
    options = tuple(
        TunedOption(subject=subject, sha256=digest, seconds=value)
        for subject, value in seconds.items()
    )
    record = MachineTuning(options=options, clips=CLIPS, versions={}, measured_at="today")
    write_tuning(opened, record)


def chosen(bundle: Path) -> tuple[str, str]:
    with Tokenizer.open(bundle) as tokenizer:
        return tokenizer.capabilities.backend, tokenizer.capabilities.reason


def test_what_ran_is_written_the_fastest_first(bundle: Path, clips: Path) -> None:
    outcome = tune(bundle, clips=clips, repetitions=2)
    (record,) = read_tuning(open_bundle(bundle)).machines.values()
    subjects = [option.subject for option in record.options]
    assert set(subjects) == {"native fp32", "onnxruntime fp32"}
    assert record.options[0].seconds <= record.options[1].seconds
    assert record.clips == CLIPS
    assert {"native", "onnxruntime", "magvit-runtime"} == set(record.versions)
    assert f"{subjects[0]} is what auto takes here" in outcome.text
    backend, reason = chosen(bundle)
    assert backend == subjects[0].split()[0]
    assert reason == "the fastest of 2 that `magvit tune` timed here"


@pytest.mark.parametrize("fastest", ["native", "onnxruntime"])
def test_auto_takes_the_fastest(bundle: Path, fastest: str) -> None:
    other = {"native": "onnxruntime", "onnxruntime": "native"}[fastest]
    write(bundle, {f"{fastest} fp32": 0.1, f"{other} fp32": 0.2})
    assert chosen(bundle) == (fastest, "the fastest of 2 that `magvit tune` timed here")
    with Tokenizer.open(bundle, backend=other) as tokenizer:
        assert tokenizer.capabilities.backend == other


def test_what_wasnt_timed_comes_after_what_was(bundle: Path) -> None:
    write(bundle, {"onnxruntime fp32": 9.0})
    assert chosen(bundle)[0] == "onnxruntime"


def test_times_of_other_bytes_dont_count(bundle: Path) -> None:
    write(bundle, {"onnxruntime fp32": 0.1, "native fp32": 0.2}, sha256="0" * 64)
    backend, reason = chosen(bundle)
    assert backend == "native"
    assert "tune" not in reason


def test_times_of_another_machine_dont_count_and_stay(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("magvit_runtime.bundle.tuning_file.machine_name", lambda: "another")
        write(bundle, {"onnxruntime fp32": 0.1})
        assert chosen(bundle)[0] == "onnxruntime"
    assert chosen(bundle)[0] == "native"
    write(bundle, {"native fp32": 0.1})
    assert set(read_tuning(open_bundle(bundle)).machines) == {"another", machine_name()}


def test_the_fastest_is_right(bundle: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CpuSession.run

    def wrong(
        self: CpuSession, inputs: Mapping[str, Any], outputs: Sequence[str]
    ) -> list[np.ndarray]:
        return [-array for array in run(self, inputs, outputs)]

    monkeypatch.setattr(CpuSession, "run", wrong)
    outcome = tune(bundle, clips=clips, repetitions=1)
    assert "native fp32: not timed: it disagrees with ONNX Runtime: rms error" in outcome.text
    assert chosen(bundle)[0] == "onnxruntime"


def test_what_cant_be_opened_is_named(
    bundle: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = Mock(side_effect=BackendError("the library is missing"))
    monkeypatch.setattr("magvit_runtime.backends.native.cpu.session.CpuExecutor", refuse)
    outcome = tune(bundle, clips=clips, repetitions=1)
    assert "native fp32: not timed: the library is missing" in outcome.text
    assert "onnxruntime fp32 is what auto takes here" in outcome.text


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"machines": {"here": {}}}'])
def test_a_malformed_file_is_refused(bundle: Path, text: str) -> None:
    (bundle / TUNING_FILE).write_text(text)
    with pytest.raises(BundleError, match=r"tuning\.json is malformed.* run `magvit tune` again"):
        Tokenizer.open(bundle)


def test_a_link_to_outside_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "tuning.json").write_text(json.dumps({"machines": {}}))
    (bundle / TUNING_FILE).symlink_to(tmp_path / "tuning.json")
    with pytest.raises(BundleError, match=r"tuning\.json is a link to outside the bundle"):
        Tokenizer.open(bundle)


def test_clips_of_another_size_and_no_repetitions(tmp_path: Path, bundle: Path) -> None:
    np.save(tmp_path / "clips.npy", np.zeros((1, 16, 24, 4), np.uint8))
    with pytest.raises(InputError):
        tune(bundle, clips=tmp_path / "clips.npy")
    with pytest.raises(InputError, match="--repetitions is out of range: found 0"):
        tune(bundle, repetitions=0)


@pytest.mark.parametrize(("frames", "read", "left_out"), [(20, 20, 3), (40, 34, 0)])
def test_what_a_video_leaves_out_is_said(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    frames: int,
    read: int,
    left_out: int,
) -> None:
    """Of a long one, of which only the first clips are run, nothing is left out that was read."""
    from runtime.clips.videos import pictures, write_video  # Skips where PyAV isn't installed.

    monkeypatch.setattr("magvit_runtime.cli.tune.MOST_CLIPS", 1)
    video = write_video(tmp_path / "walk.mkv", pictures(frames, 128, 128))
    outcome = tune(bundle, clips=video, repetitions=1)
    assert f"{read} frames read" in outcome.text.splitlines()[-1]
    assert (outcome.facts["video"]["frames"], outcome.facts["video"]["left_out"]) == (
        read,
        left_out,
    )


def test_a_bundle_that_cant_be_written_is_refused_before_the_work(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magvit_runtime.benchmarks.tuning._open_all", None)
    monkeypatch.setattr("os.open", Mock(side_effect=OSError(errno.EROFS, "Read-only file system")))
    with pytest.raises(InputError, match=r"can't write to .*: found Read-only file system"):
        tune(bundle)
    monkeypatch.undo()
    (bundle / TUNING_FILE).write_text("{}")
    monkeypatch.setattr("magvit_runtime.benchmarks.tuning._open_all", None)
    with pytest.raises(BundleError, match=r"remove it and run `magvit tune` again"):
        tune(bundle)


def test_a_decoder_is_tuned_beside_the_encoder(bundle: Path, clips: Path) -> None:
    tune(bundle, clips=clips, repetitions=1)
    outcome = tune(bundle, role="decode", repetitions=1)
    assert "is what auto takes here" in outcome.text
    tuning = read_tuning(open_bundle(bundle))
    (encoders,) = tuning.of("encode").values()
    (decoders,) = tuning.of("decode").values()
    assert (encoders.clips, decoders.clips) == (CLIPS, (5, 16, 16))
    assert {option.sha256 for option in encoders.options}.isdisjoint(
        option.sha256 for option in decoders.options
    )
    with Detokenizer.open(bundle) as detokenizer:
        reason = detokenizer.capabilities.reason
    assert reason == "the fastest of 2 that `magvit tune` timed here"
    assert chosen(bundle)[1] == reason
