"""Runs of the tokenizer's training: what they write, and that they go on as if never stopped."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime.magvit_process import MAIN, done_json, failed
from runtime.reports.html_reading import outward_references, read_html
from safetensors.torch import load_file
from seeded_checkpoints import TINY

from magvit_export.catalog import find_model
from magvit_export.checkpoints.keys import ema_name
from magvit_export.cli.train_tokenizer import tokenizer
from magvit_export.exporting import export_model
from magvit_export.training.tokenizer.options import TokenizerOptions
from magvit_export.training.tokenizer.records import (
    CARD_FILE,
    HELD_OUT_FILE,
    REPORT_FILE,
    RUN_FILE,
    STATE_FILE,
    STEPS_FILE,
    WEIGHTS_FILE,
    HeldOutRecord,
    StepRecord,
    read_lines,
    read_run,
)
from magvit_export.training.tokenizer.run import begin_run, resume_run
from magvit_runtime import Tokenizer
from magvit_runtime.errors import InputError, MagvitError
from magvit_runtime.files.locks import try_lock

QUICK = TokenizerOptions(
    stages="16:20,24:4", frames=3, batch=2, warm_up=2, learning_rate=3e-3, every=8, threads=1
)
TINY_FILE = '{"ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1}'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    begin_run(folder, QUICK, config=TINY)
    return folder


def test_the_loss_falls(run: Path) -> None:
    steps = read_lines(run / STEPS_FILE, StepRecord)
    assert [step.step for step in steps] == list(range(1, 25))
    assert [step.size for step in steps] == [16] * 20 + [24] * 4
    first = np.mean([step.reconstruction for step in steps[:4]])
    last = np.mean([step.reconstruction for step in steps[16:20]])
    assert last < 0.7 * first
    rates = [step.learning_rate for step in steps]
    assert rates[0] == pytest.approx(1e-3)  # A third of the highest, in the first of three steps.
    assert max(rates) < 3e-3
    assert rates[19] < 0.1 * max(rates)
    assert rates[20] == pytest.approx(1e-3)


@pytest.mark.slow
def test_compiled_training_takes_the_same_steps(run: Path, tmp_path: Path) -> None:
    options = replace(QUICK, stages="16:3", every=3, compile=True)
    begin_run(tmp_path / "run", options, config=TINY)
    compiled = read_lines(tmp_path / "run" / STEPS_FILE, StepRecord)
    # The first step alone has the learning rate of the other run, whose stage is longer.
    plain = read_lines(run / STEPS_FILE, StepRecord)
    assert compiled[0].loss == pytest.approx(plain[0].loss, rel=1e-4)
    assert compiled[0].gradient == pytest.approx(plain[0].gradient, rel=1e-3)
    assert compiled[2].loss < compiled[0].loss
    before, after = (load_file(tmp_path / "run" / WEIGHTS_FILE), load_file(run / WEIGHTS_FILE))
    assert before.keys() == after.keys()


def test_held_out_clips_are_measured_at_each_checkpoint(run: Path) -> None:
    checks = read_lines(run / HELD_OUT_FILE, HeldOutRecord)
    assert [(check.step, check.size) for check in checks] == [(0, 16), (8, 16), (16, 16), (24, 24)]
    for check in checks:
        assert check.clips == {"recorded": 16, "generated": 16}
        assert check.ground_psnr.keys() == check.psnr.keys() == check.clips.keys()
        assert 0 < check.drawn_share < 1
        assert 0 < check.drawn_entropy <= np.log2(check.drawn_codes)
        assert max(check.drawn_codes, check.ground_codes) <= check.codes
        assert 0 <= check.constant_bits < 18
    assert checks[-1].psnr["recorded"] > checks[0].psnr["recorded"] + 1


def test_the_moving_average_is_what_is_written(run: Path) -> None:
    state = load_file(run / STATE_FILE)
    written = load_file(run / WEIGHTS_FILE)
    averages = {key: value for key, value in state.items() if key.startswith("average.")}
    assert len(written) == len(averages)
    for key, value in averages.items():
        raw = key.removeprefix("average.")
        assert written[ema_name(raw)].dtype == torch.float16
        torch.testing.assert_close(written[ema_name(raw)], value.half(), rtol=0, atol=0)
    differ = [
        not torch.equal(v, state[k.replace("average.", "model.", 1)]) for k, v in averages.items()
    ]
    assert all(differ)


def test_the_weights_are_exported(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from magvit_export.families.magvit.tokenizer import MagvitTokenizer

    with caplog.at_level(logging.WARNING):
        bundle = export_model(
            find_model("trajectory-small"),
            tmp_path / "bundle",
            weights=str(run / WEIGHTS_FILE),
            config=TINY,
        )
    assert caplog.records == []
    assert set(bundle.manifest.graphs) == {"encode", "decode"}
    assert bundle.manifest.component.weights.variant == "ema"
    written = load_file(run / WEIGHTS_FILE)
    model = MagvitTokenizer(TINY)
    model.load_state_dict({key: written[ema_name(key)].float() for key in model.state_dict()})
    frames = np.random.default_rng(0).integers(256, size=(2, 3, 16, 16, 3), dtype=np.uint8)
    with Tokenizer.open(tmp_path / "bundle") as tokenizer, torch.no_grad():
        expected = model.encode(torch.from_numpy(frames)).numpy()
        assert np.mean(tokenizer(frames) == expected) > 0.99


def test_the_report_has_curves_and_fetches_nothing(run: Path) -> None:
    document = read_html((run / REPORT_FILE).read_text())
    assert outward_references(document) == []
    assert "Training of trajectory-small" in document.text
    assert "24 of 24" in document.text
    titles = [element.text for element in document.find("h2")]
    assert titles[:2] == ["Held-out clips", "Tokens"]
    assert sum(title.startswith("Loss: ") for title in titles) == 5
    _, tokens = document.find("table")
    assert len(tokens.find("tr")) == 1 + 5


def test_the_card_says_what_was_done(run: Path) -> None:
    card = (run / CARD_FILE).read_text()
    record = read_run(run)
    for fact in (
        "The run is complete.",
        record.command,
        record.data_sha256,
        "250 are trained on and 80 held out",
        "20 steps at 3x16x16, then 4 steps at 3x24x24",
        "Seed 0; fp32;",
    ):
        assert fact in " ".join(card.split())
    assert "| 24 | 24 | 160 |" in card


def test_a_complete_run_is_only_checked_again(run: Path) -> None:
    before = {name: (run / name).read_bytes() for name in (STATE_FILE, WEIGHTS_FILE, STEPS_FILE)}
    assert resume_run(run).step == 24
    assert {name: (run / name).read_bytes() for name in before} == before


def test_a_seed_is_another_run(run: Path, tmp_path: Path) -> None:
    begin_run(tmp_path / "run", replace(QUICK, stages="16:1", seed=1), config=TINY)
    assert lines(run)[0].loss != lines(tmp_path / "run")[0].loss


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", MAIN, "train", "tokenizer", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)


def kill_at(folder: Path, process: subprocess.Popen[bytes], steps: int) -> None:
    """Kills a run once it has recorded so many steps."""
    while process.poll() is None and len(lines(folder / "run")) < steps:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """Killed in the first stage, and again in the second."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    stages = ("--stages", "16:11,24:5", "--frames", "3", "--every", "4", "--threads", "1")
    asked = ("-o", "run", "--config", "tiny.json", *stages)
    for folder in (whole, killed):
        folder.mkdir()
        (folder / "tiny.json").write_text(TINY_FILE)
    kill_at(killed, start(killed, *asked), 6)
    assert lines(killed / "run")[-1].step < 11
    kill_at(killed, start(killed, "--resume", "run"), 13)
    assert lines(killed / "run")[-1].step < 16
    assert start(whole, *asked).wait() == 0

    facts = done_json("train", "tokenizer", "--resume", "run", cwd=killed)
    assert (facts["run"], facts["step"]) == ("run", 16)
    for name in (WEIGHTS_FILE, STATE_FILE, HELD_OUT_FILE):
        assert (killed / "run" / name).read_bytes() == (whole / "run" / name).read_bytes(), name
    found, expected = lines(killed / "run"), lines(whole / "run")
    assert [(step.step, step.loss) for step in found] == [(one.step, one.loss) for one in expected]
    assert {path.name for path in (killed / "run").iterdir()} == {
        *(RUN_FILE, STATE_FILE, STEPS_FILE, HELD_OUT_FILE, WEIGHTS_FILE, REPORT_FILE, CARD_FILE)
    }


def lines(folder: Path) -> list[StepRecord]:
    return read_lines(folder / STEPS_FILE, StepRecord)


def test_bfloat16_trains_too(tmp_path: Path) -> None:
    options = TokenizerOptions(
        stages="16:10", frames=3, warm_up=2, learning_rate=3e-3, threads=1, precision="bf16"
    )
    begin_run(tmp_path / "run", options, config=TINY)
    steps = lines(tmp_path / "run")
    assert steps[-1].reconstruction < 0.8 * steps[0].reconstruction
    state = load_file(tmp_path / "run" / STATE_FILE)
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_a_run_starts_from_another_s_weights(run: Path, tmp_path: Path) -> None:
    options = TokenizerOptions(stages="24:1", frames=3, threads=1, every=1)
    weights = str(run / WEIGHTS_FILE)
    begin_run(tmp_path / "run", options, config=TINY, start_weights=weights)
    record = read_run(tmp_path / "run")
    assert record.start_weights == weights
    first, *_ = read_lines(tmp_path / "run" / HELD_OUT_FILE, HeldOutRecord)
    last = read_lines(run / HELD_OUT_FILE, HeldOutRecord)[-1]
    assert first.psnr == pytest.approx(last.psnr, abs=0.02)


def test_a_folder_that_holds_something_is_refused(run: Path) -> None:
    with pytest.raises(InputError, match=r"isn't empty\. Fix: go on with it by --resume, or"):
        begin_run(run, QUICK, config=TINY)


def test_a_run_that_another_process_trains_is_refused(run: Path) -> None:
    descriptor = os.open(run, os.O_RDONLY)
    try:
        assert try_lock(descriptor)
        with pytest.raises(InputError, match="another process trains in"):
            resume_run(run)
    finally:
        os.close(descriptor)


def test_data_that_changed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    rows = [f"{i},{x},{x * i}" for i in range(8) for x in range(3)]
    path.write_text("\n".join(["id,x,y", *rows]))
    options = TokenizerOptions(stages="16:1", frames=3, threads=1)
    begin_run(tmp_path / "run", options, config=TINY, recorded=path)
    assert read_run(tmp_path / "run").recorded == str(path)
    path.write_text("\n".join(["id,x,y", *rows, "9,0,0", "9,1,1"]))
    with pytest.raises(InputError, match=r"mine\.csv has changed since: found sha256"):
        resume_run(tmp_path / "run")


def test_a_damaged_state_is_refused(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (RUN_FILE, STATE_FILE):
        content = (run / name).read_bytes()
        (folder / name).write_bytes(content if name == RUN_FILE else content[: len(content) // 2])
    with pytest.raises(InputError, match=r"state\.safetensors is no state of this run: found"):
        resume_run(folder)


def test_models_that_cannot_be_trained(tmp_path: Path) -> None:
    for name in ("open-magvit2-image-128", "ibq-1024", "videomae-base"):
        with pytest.raises(InputError, match=f"{name} can't be trained"):
            begin_run(tmp_path / "run", QUICK, model=name)
    assert not list(tmp_path.iterdir())


def test_bad_arguments_are_sentences(tmp_path: Path) -> None:
    assert failed(2, "train", "tokenizer") == (
        "one of --resume and -o is needed. Fix: give -o RUN for a new run, or --resume RUN"
    )
    run = tmp_path / "run"
    assert failed(2, "train", "tokenizer", "-o", run, "--stages", "60:3").startswith(
        "a stage's size can't be trained on: found 60, expected a multiple of 8 from 16 to 1024"
    )
    assert not list(tmp_path.iterdir())


def test_a_run_that_goes_on_keeps_its_options(run: Path) -> None:
    for others in ({"options": QUICK}, {"weights": "seeded:1"}, {"trajectories": Path("a.csv")}):
        with pytest.raises(InputError, match="a run that goes on keeps its own options"):
            tokenizer(resume=run, **others)
    with pytest.raises(InputError, match="one of --resume and -o is needed"):
        tokenizer(resume=run, output=run)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        resume_run(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} is no run: found No such file or directory. "
        "Fix: magvit train tokenizer -o RUN begins one"
    )
    (tmp_path / RUN_FILE).write_text('{"model": 3}')
    with pytest.raises(InputError, match=r"run\.json is no record of a run: found "):
        resume_run(tmp_path)


@pytest.mark.parametrize("device", ["tpu9000", "meta", "cuda:99"])
def test_devices_that_are_not_there(tmp_path: Path, device: str) -> None:
    with pytest.raises(
        InputError, match=r"--device is unknown|torch finds no such GPU: found cuda:99"
    ):
        begin_run(tmp_path / "run", replace(QUICK, device=device), config=TINY)
    assert not list(tmp_path.iterdir())


def test_start_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MagvitError, match=r"nothing\.ckpt"):
        begin_run(
            tmp_path / "run", QUICK, config=TINY, start_weights=str(tmp_path / "nothing.ckpt")
        )
    assert not list(tmp_path.iterdir())
