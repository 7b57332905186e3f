"""From a file of labelled trajectories to a bundle with a trained classifier."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from safetensors.torch import save

from magvit_export.catalog import CatalogEntry, find_model
from magvit_export.checkpoints.packaged import TRAINED, packaged_checkpoint
from magvit_export.exporting import export_model
from magvit_export.families.family import find_family
from magvit_export.families.magvit.tokenizer import MagvitTokenizer
from magvit_export.loading import load_model
from magvit_export.training.classifier_training import TrainingResult, train_classifier
from magvit_export.training.drawn_clips import (
    Look,
    read_labelled,
    tokenize_trajectories,
    usual_copies,
)
from magvit_export.training.fine_tuning import FineTuned, FineTuneOptions, fine_tune
from magvit_export.training.group_column import read_groups
from magvit_export.training.options import TrainingOptions
from magvit_export.training.splitting import classes_of, group_numbers, split_by_class
from magvit_runtime import Tokenizer
from magvit_runtime.bundle.reading import MANIFEST_NAME
from magvit_runtime.clips.trajectories import ReadReport, Trajectory
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path

logger = logging.getLogger(__name__)

MODEL = "trajectory-small"


@dataclass(frozen=True)
class TokenizerChoice:
    """The tokenizer that is exported where there is no bundle yet.

    Attributes:
        model: Name of the model.
        weights: Path of a checkpoint, hub, trained, seeded or seeded:N; those that ship with the
            package (trained) by default, or seeded ones where none do.
    """

    model: str = MODEL
    weights: str | None = None


def default_weights(model: str, config: msgspec.Struct | None) -> str:
    """The weights of a model where none are named: those that ship with the package, if any.

    They fit no other architecture than the model's own.

    Seeded ones were never trained, and that is logged.
    """
    if packaged_checkpoint(model) is not None and config in (None, find_model(model).config):
        return TRAINED
    logger.warning(
        "no trained weights of such a %s ship with this package: its tokens come from GENERATED "
        "weights, which were never trained. `magvit train tokenizer` trains some, for --weights",
        model,
    )
    return "seeded"


def train_on_trajectories(
    source: Path,
    output: Path,
    look: Look,
    options: TrainingOptions,
    *,
    report: ReadReport,
    choice: TokenizerChoice | None = None,
    config: msgspec.Struct | None = None,
    how: FineTuneOptions | None = None,
    group: str | None = None,
    copies: int | None = None,
    backend: str = "auto",
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[TrainingResult, FineTuned | None]:
    """Exports a tokenizer, draws and tokenizes trajectories, and trains a classifier on them.

    Args:
        source: File of trajectories with labels.
        output: The bundle. One that is there already keeps its tokenizer.
        look: How trajectories are read and drawn.
        options: How the classifier is trained.
        report: Of the file, filled while it is read.
        choice: The tokenizer of a new bundle.
        config: Its architecture, where it isn't the model's own.
        how: Whether and how its encoder is trained too.
        group: Column of the file that says which trajectories belong together.
        copies: Varied copies of each training trajectory. By default `usual_copies`; none where
            the encoder is trained too.
        backend: What runs the tokenizer.
        advance: Called with the number of clips just tokenized.

    Raises:
        MagvitError: A step failed.
    """
    choice, how = choice or TokenizerChoice(), how or FineTuneOptions()
    trajectories = read_labelled(source, look, report)
    if copies is None:
        shown = len(trajectories) * look.cameras.views
        copies = 0 if how.fine_tune else usual_copies(shown)
    groups = None
    if group is not None:
        groups = read_groups(source, group, [item.id for item in trajectories])
    is_there = (output / MANIFEST_NAME).exists()
    if is_there and (choice != TokenizerChoice() or how.fine_tune):
        raise InputError(
            f"{output} holds a tokenizer already",
            mend="name a new folder with -o, or leave --model, --weights and --fine-tune out",
        )
    tuned = None
    if not is_there:
        entry = find_model(choice.model)
        weights = choice.weights or default_weights(choice.model, config)
        if how.fine_tune:
            tuned, weights = _fine_tuned(
                entry,
                config,
                weights,
                source,
                output,
                trajectories,
                groups,
                look,
                options,
                how,
                vary=copies > 0,
            )
        export_model(entry, output, weights=weights, roles=["encode"], config=config)
    with Tokenizer.open(output, backend=backend) as tokenizer:
        clips = tokenize_trajectories(
            tokenizer,
            trajectories,
            look,
            report,
            copies=copies,
            seed=options.seed,
            groups=groups,
            advance=advance,
        )
    return train_classifier(output, clips, options), tuned


def _fine_tuned(
    entry: CatalogEntry,
    config: msgspec.Struct | None,
    weights: str,
    source: Path,
    output: Path,
    trajectories: list[Trajectory],
    groups: list[str] | None,
    look: Look,
    options: TrainingOptions,
    how: FineTuneOptions,
    *,
    vary: bool,
) -> tuple[FineTuned, str]:
    """Fine-tunes an encoder on what isn't held out; returns also the file of its weights."""
    if options.folds:
        raise InputError(
            "fine-tuning is measured on held-out trajectories, since folds would need an encoder "
            "each",
            found=f"--folds {options.folds}",
            mend="give --holdout",
        )
    loaded = load_model(
        find_family(entry.family), entry, config or entry.config, ["encode"], weights, None
    )
    if not isinstance(loaded.module, MagvitTokenizer):
        raise InputError(f"{entry.name} can't be fine-tuned", expected="a model of sign tokens")
    names = [item.id for item in trajectories] if groups is None else groups
    numbers = group_numbers(names)
    _, targets = classes_of([item.label for item in trajectories])
    # As `fit_and_measure` splits their clips: views of each after each other.
    views = look.cameras.views
    of_clips = np.repeat(np.arange(len(targets)), views)
    clips, _ = split_by_class(
        targets[of_clips],
        np.arange(len(of_clips)),
        options.share,
        options.seed,
        numbers[of_clips],
    )
    train = np.unique(of_clips[clips])
    tuned = fine_tune(
        loaded.module.encoder,
        [trajectories[row] for row in train],
        numbers[train].tolist(),
        look.style.checked(),
        look.cameras,
        replace(options, holdout=0),
        how,
        bits=loaded.module.config.z_channels,
        vary=vary,
    )
    path = output.with_name(f"{output.name}-fine-tuned.safetensors")
    origin = (
        f"{entry.name}, fine-tuned from {weights} on {len(train)} trajectories of {source.name}, "
        f"epoch {tuned.epoch} of {how.fine_tune_epochs}"
    )
    tensors = {
        f"encoder.{key}": value.contiguous()
        for key, value in loaded.module.encoder.state_dict().items()
    }
    with atomic_path(path) as partial:
        partial.write_bytes(save(tensors, {"origin": origin}))
    return tuned, str(path)
