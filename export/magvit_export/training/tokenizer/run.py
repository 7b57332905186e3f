"""A run: its folder, its steps, and its going on after it was stopped or killed."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from magvit_export.bundle_writer import software_versions, timestamp
from magvit_export.catalog import find_model
from magvit_export.checkpoints.packaged import TRAINED
from magvit_export.checkpoints.weights import find_weights, is_seeded
from magvit_export.families.family import find_family
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.training.tokenizer import records
from magvit_export.training.tokenizer.card import model_card
from magvit_export.training.tokenizer.clips import (
    Recorded,
    held_out_clips,
    libras_split,
    recorded_file,
    style_of,
)
from magvit_export.training.tokenizer.held_out import measure
from magvit_export.training.tokenizer.options import TokenizerOptions, check_sizes
from magvit_export.training.tokenizer.records import HeldOutRecord, RunRecord, StepRecord
from magvit_export.training.tokenizer.report import training_report
from magvit_export.training.tokenizer.state import (
    TrainingState,
    load_state,
    save_state,
    start,
    write_weights,
)
from magvit_export.training.tokenizer.steps import train_step
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.files.locks import try_lock
from magvit_runtime.hardware.cpu import cpu_name
from magvit_runtime.reports import check_report_packages

logger = logging.getLogger(__name__)

# Held-out trajectories a source, at each check and at the end.
_FEW, _ALL = 16, 80


def begin_run(
    folder: Path,
    options: TokenizerOptions,
    *,
    model: str = "trajectory-small",
    config: TokenizerConfig | None = None,
    start_weights: str = "seeded",
    recorded: Path | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> HeldOutRecord:
    """Trains a tokenizer in a new folder.

    Args:
        folder: Not there, or empty.
        options: How it is trained.
        model: A video model of the family "magvit", by its name in the catalog.
        config: Its architecture, where it isn't the catalog's.
        start_weights: "seeded", "seeded:N", "trained" or the path of a checkpoint.
        recorded: File of the recorded trajectories; None takes Libras.
        advance: Called with the number of steps just done.

    Returns:
        What the written weights give on all held-out clips.

    Raises:
        MagvitError: Something can't be used or written, or training diverged.
    """
    check_report_packages()
    entry = find_model(model)
    chosen = config or entry.config
    if not isinstance(chosen, TokenizerConfig) or chosen.dims != 3:
        raise InputError(f"{model} can't be trained", expected="a video model of the family magvit")
    check_sizes(options, chosen)
    _check_device(options.device)
    options = replace(options, threads=options.threads or torch.get_num_threads())
    is_file = start_weights not in ("hub", TRAINED) and not is_seeded(start_weights)
    source = str(Path(start_weights).absolute()) if is_file else start_weights
    weights, sha256 = _start_weights(model, chosen, source)
    data = _recorded(recorded)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise InputError(f"can't write {folder}", found=error.strerror) from error
    if not is_empty:
        mend = "go on with it by --resume, or choose another -o"
        raise InputError(f"{folder} isn't empty", mend=mend)
    with _locked(folder):
        run = RunRecord(
            model=model,
            config=chosen,
            options=options,
            command=shlex.join(["magvit", *sys.argv[1:]]),
            start_weights=source,
            start_sha256=sha256,
            recorded=None if recorded is None else str(recorded.absolute()),
            data=data.name,
            data_sha256=data.sha256,
            trained_on=len(data.train),
            held_out=len(data.held_out),
            machine=_machine(options),
            software=software_versions(),
            begun=timestamp(),
        )
        records.write_run(folder, run)
        return _train(folder, run, weights, data, advance)


def resume_run(folder: Path, advance: Callable[[int], None] = lambda _: None) -> HeldOutRecord:
    """Goes on with a run from its last checkpoint; one that is complete is only checked again.

    On the same machine, CPU threads and versions the weights are, to the bit, those of a run that
    was never stopped.

    Args:
        folder: The run's.
        advance: Called with the number of steps just done, those of before at once.

    Raises:
        MagvitError: As of `begin_run`; or the data or start weights aren't those of before.
    """
    check_report_packages()
    run = records.read_run(folder)
    check_sizes(run.options, run.config)
    _check_device(run.options.device)
    data = _recorded(None if run.recorded is None else Path(run.recorded))
    if data.sha256 != run.data_sha256:
        found, expected = f"sha256 {data.sha256}", f"sha256 {run.data_sha256}"
        raise InputError(f"{data.name} has changed since", found=found, expected=expected)
    now = {**software_versions(), "machine": _machine(run.options)}
    before = {**run.software, "machine": run.machine}
    if changed := [name for name in now if now[name] != before.get(name)]:
        logger.warning(
            "%s began with other versions or another machine (%s): its bits may differ from those "
            "of a run that was not stopped",
            folder,
            ", ".join(f"{name} {before.get(name)}, now {now[name]}" for name in changed),
        )
    weights, sha256 = _start_weights(run.model, run.config, run.start_weights)
    if sha256 != run.start_sha256:
        raise InputError(f"{run.start_weights} has changed since", found=f"sha256 {sha256}")
    with _locked(folder):
        return _train(folder, run, weights, data, advance)


def _train(
    folder: Path,
    run: RunRecord,
    weights: dict[str, torch.Tensor],
    data: Recorded,
    advance: Callable[[int], None],
) -> HeldOutRecord:
    options = run.options
    with _threads(options.threads):
        state = start(run.config, weights, options)
        state_file = folder / records.STATE_FILE
        if state_file.exists():
            load_state(state_file, state)
        _forget_later_lines(folder, state.step)
        advance(state.step)
        if state.step == 0:
            _check(folder, run, state, data)
        while state.step < options.steps:
            line = train_step(state, data, options)
            records.append_line(folder / records.STEPS_FILE, line)
            advance(1)
            if state.step % options.every == 0 or state.step == options.steps:
                _check(folder, run, state, data)
                # Last, so that a run never goes on from a step that wasn't checked.
                save_state(state_file, state)
        return _finish(folder, run, state, data)


def _check(folder: Path, run: RunRecord, state: TrainingState, data: Recorded) -> None:
    """Measures held-out clips, and writes what can be used of the run so far."""
    stage, _ = run.options.stage_of(max(0, state.step - 1))
    found = _measured(run, state, data, stage.size, _FEW)
    records.append_line(folder / records.HELD_OUT_FILE, found)
    _publish(folder, run, state, None)


def _finish(folder: Path, run: RunRecord, state: TrainingState, data: Recorded) -> HeldOutRecord:
    found = _measured(run, state, data, run.options.plan[-1].size, _ALL)
    _publish(folder, run, state, found)
    return found


def _measured(
    run: RunRecord, state: TrainingState, data: Recorded, size: int, count: int
) -> HeldOutRecord:
    style = style_of(size, run.options.frames)
    return measure(state.averaged(), held_out_clips(data, count), style, state.step)


def _publish(
    folder: Path, run: RunRecord, state: TrainingState, final: HeldOutRecord | None
) -> None:
    origin = f"{run.model}, {state.step} steps of: {run.command}"
    write_weights(folder / records.WEIGHTS_FILE, state, origin)
    steps = records.read_lines(folder / records.STEPS_FILE, StepRecord)
    checks = records.read_lines(folder / records.HELD_OUT_FILE, HeldOutRecord)
    for name, text in (
        (records.REPORT_FILE, training_report(run, steps, checks, final)),
        (records.CARD_FILE, model_card(run, steps, checks, final)),
    ):
        with atomic_path(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


def _forget_later_lines(folder: Path, step: int) -> None:
    """Drops what was recorded after the checkpoint: it comes again."""
    steps, checks = folder / records.STEPS_FILE, folder / records.HELD_OUT_FILE
    records.write_lines(steps, records.read_lines(steps, StepRecord, step))
    kept = records.read_lines(checks, HeldOutRecord, step)
    records.write_lines(checks, kept if step else [])


def _recorded(path: Path | None) -> Recorded:
    return libras_split() if path is None else recorded_file(path)


def _start_weights(
    model: str, config: TokenizerConfig, source: str
) -> tuple[dict[str, torch.Tensor], str | None]:
    entry = find_model(model)
    family = find_family(entry.family)
    shapes = {key: tuple(value.shape) for key, value in family.build(config).state_dict().items()}
    prefixes = ("encoder.", "decoder.")
    found = find_weights(source, entry, shapes, prefixes, family.spellings)
    return found.state, found.record.sha256


def _machine(options: TokenizerOptions) -> str:
    if torch.device(options.device).type == "cuda":
        return torch.cuda.get_device_name(options.device)
    return cpu_name()


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError("--device is unknown", found=repr(name), expected="cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InputError("torch finds no such GPU", found=f"{name}, of {count}", expected="cpu")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch with a number of threads: sums in another order have other bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from the same run."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if try_lock(descriptor) is False:
            raise InputError(f"another process trains in {folder}", mend="wait for it, or end it")
        yield
    finally:
        os.close(descriptor)
