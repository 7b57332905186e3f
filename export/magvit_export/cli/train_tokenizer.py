"""`magvit train tokenizer`: encoder, quantizer and decoder learn to draw trajectories again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from magvit_export.training.tokenizer.options import DEFAULT_OPTIONS, TokenizerOptions
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.errors import InputError

MODEL, START = "trajectory-small", "seeded"


def tokenizer(
    trajectories: Path | None = None,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    resume: Path | None = None,
    options: Annotated[TokenizerOptions, Parameter(name="*")] = DEFAULT_OPTIONS,
    model: str = MODEL,
    config: Path | None = None,
    weights: str = START,
) -> Outcome:
    """Trains a tokenizer on drawn trajectories: generated ones, and recorded movements.

    Args:
        trajectories: Recorded movements, in a file as `magvit render` takes it; the UCI Libras
            movements that ship with the package by default. A quarter of each class is held out.
        output: Folder of a new run: state, curves, report.html, MODEL_CARD.md, and
            weights.safetensors for `magvit export … --weights`, written anew at each checkpoint.
        resume: Folder of a run to go on with, from its last checkpoint and with its own options.
        options: How it is trained.
        model: Name of the model.
        config: JSON or YAML file with what differs from the model's architecture.
        weights: What to start from: seeded, seeded:N, trained (what ships with this package) or
            the path of a checkpoint.
    """
    if (resume is None) == (output is None):
        mend = "give -o RUN for a new run, or --resume RUN"
        raise InputError("one of --resume and -o is needed", mend=mend)
    others = (trajectories, config, options, model, weights)
    if resume is not None and others != (None, None, DEFAULT_OPTIONS, MODEL, START):
        raise InputError("a run that goes on keeps its own options", mend="leave the others out")

    from magvit_export.catalog import find_model
    from magvit_export.families.family import find_family, read_config
    from magvit_export.training.tokenizer.records import WEIGHTS_FILE, read_run
    from magvit_export.training.tokenizer.run import begin_run, resume_run

    folder = output or resume
    assert folder is not None
    steps = options.steps if resume is None else read_run(resume).options.steps
    with progress_bar("steps", steps) as advance:
        if resume is not None:
            found = resume_run(resume, advance)
        else:
            entry = find_model(model)
            kind = find_family(entry.family).config
            found = begin_run(
                folder,
                options,
                model=model,
                config=None if config is None else read_config(config, kind, entry.config),
                start_weights=weights,
                recorded=trajectories,
                advance=advance,
            )
    lines = [f"{found.step} steps -> {folder / WEIGHTS_FILE}"]
    lines += [
        f"{name}: PSNR {found.psnr[name]:.2f} dB on {count} held-out clips "
        f"(the background alone: {found.ground_psnr[name]:.2f})"
        for name, count in found.clips.items()
    ]
    lines.append(
        f"{found.codes} different ids, {found.drawn_entropy:.2f} bits a drawn token, "
        f"{found.constant_bits} bits that never change"
    )
    return Outcome({"run": str(folder), **msgspec.to_builtins(found)}, "\n".join(lines))
