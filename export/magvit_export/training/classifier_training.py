"""Makes a classifier in a bundle from clips and labels: all of `magvit train classifier`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magvit_export.training.classifier_export import export_classifier
from magvit_export.training.fitting import FittedClassifier, fit
from magvit_export.training.inputs import ClipTable, Info, LabelledClips, join_tables
from magvit_export.training.joined_classifier import JoinedClassifier
from magvit_export.training.joined_export import export_joined
from magvit_export.training.measures import Measures, measure, pooled
from magvit_export.training.options import TrainingOptions
from magvit_export.training.sources import take
from magvit_export.training.splitting import Rows, classes_of, folds_by_class, split_by_class
from magvit_runtime.bundle.reading import Bundle, open_bundle
from magvit_runtime.bundle.writing import refuse_store
from magvit_runtime.errors import InputError
from magvit_runtime.results.token_files import TokenFileInfo


@dataclass(frozen=True)
class TrainingResult:
    """A trained classifier's record.

    Attributes:
        classes: Name of each class, in order.
        train: Rows of the clips that it was trained on.
        held_out: Rows that were kept out.
        train_accuracy: Share of the training trajectories predicted right, 0..1.
        measures: Figures of trajectories by classifiers that weren't trained on them: the held-out
            ones; or all, each by the classifier of its fold. None if nothing was held out.
        folds: Accuracy of each fold, 0..1; empty where there are none.
    """

    classes: tuple[str, ...]
    train: NDArray[np.intp]
    held_out: NDArray[np.intp]
    train_accuracy: float
    measures: Measures | None
    folds: tuple[float, ...] = ()

    @property
    def held_out_accuracy(self) -> float | None:
        """Share of the held-out trajectories predicted right; None if there are none."""
        return None if self.measures is None else self.measures.accuracy


def train_classifier(
    bundle_path: Path, clips: LabelledClips | ClipTable, options: TrainingOptions
) -> TrainingResult:
    """Trains a classifier on labelled clips and exports it into a bundle.

    Clips without a label take no part.

    Args:
        bundle_path: Bundle of the model that made the clips' tokens or features, or one of several
            sources.
        clips: What is known of them.
        options: How.

    Raises:
        InputError: No source is this bundle's, or clips are too few.
        BundleError: There is no sound bundle at `bundle_path`.
    """
    bundle = open_bundle(bundle_path)
    refuse_store(bundle_path)
    clips = clips if isinstance(clips, LabelledClips) else join_tables([clips])
    check_origin(bundle, clips.infos)
    fitted, result, training = fit_and_measure(clips, options)
    if isinstance(fitted.module, JoinedClassifier):
        export_joined(
            bundle, fitted.module, result.classes, clips.infos, options.embedding, training
        )
    else:
        (info,) = clips.infos
        assert isinstance(info, TokenFileInfo)
        export_classifier(bundle, fitted.module, result.classes, info, options.embedding, training)
    return result


def fit_and_measure(
    clips: LabelledClips, options: TrainingOptions
) -> tuple[FittedClassifier, TrainingResult, dict[str, str | int | float]]:
    """Fits a classifier and measures it on clips that it wasn't trained on.

    With folds, each trajectory is predicted by a classifier that was fitted to the other folds, and
    the classifier that is returned is fitted to all. Without, it is fitted to what isn't held out.

    Returns:
        The classifier, its record, and the facts that a bundle keeps.

    Raises:
        InputError: There are less than two classes, or too few clips.
    """
    classes, targets = classes_of(clips.labels)
    if len(classes) < 2:
        raise InputError("training needs labels of two classes at least", found=f"{len(classes)}")
    labelled = np.flatnonzero((targets >= 0) & ~clips.varied)
    groups, seed = clips.groups, options.seed

    def fitted_to(rows: Rows) -> FittedClassifier:
        # Varied copies come with their trajectory.
        copies = clips.varied & (targets >= 0) & np.isin(groups, groups[rows])
        every = np.sort(np.concatenate([rows, np.flatnonzero(copies)]))
        return fit(
            take(clips.sources, every),
            [clips.labels[row] or "" for row in every],
            options,
            groups=groups[every],
            varied=clips.varied[every],
            classes=classes,
        )

    def measured(found: NDArray[np.float32], rows: Rows) -> Measures:
        means, first = pooled(found, groups[rows])
        return measure(targets[rows][first], means, classes)

    measures, accuracies = None, []
    train, held_out = labelled, labelled[:0]
    if options.folds:
        found = np.zeros((len(targets), len(classes)), np.float32)
        for others, fold in folds_by_class(targets, labelled, options.folds, seed, groups):
            found[fold] = fitted_to(others).predict_proba(take(clips.sources, fold))
            accuracies.append(measured(found[fold], fold).accuracy)
        measures = measured(found[labelled], labelled)
    else:
        train, held_out = split_by_class(targets, labelled, options.share, seed, groups)
    fitted = fitted_to(train)
    of_training = measured(fitted.predict_proba(take(clips.sources, train)), train)
    if len(held_out):
        measures = measured(fitted.predict_proba(take(clips.sources, held_out)), held_out)
    result = TrainingResult(
        classes, train, held_out, of_training.accuracy, measures, tuple(accuracies)
    )
    return fitted, result, _facts(clips, options, fitted, result)


def _facts(
    clips: LabelledClips,
    options: TrainingOptions,
    fitted: FittedClassifier,
    result: TrainingResult,
) -> dict[str, str | int | float]:
    """What a bundle says of a classifier's training."""
    facts: dict[str, str | int | float] = {
        "clips": len(result.train),
        "held_out_clips": len(result.held_out),
        "train_accuracy": round(result.train_accuracy, 4),
        **fitted.facts,
        "seed": options.seed,
    }
    if clips.views > 1:
        facts["views"] = clips.views
    if clips.varied.any():
        facts["varied_clips"] = int(clips.varied.sum())
    if options.class_weights != "none":
        facts["class_weights"] = options.class_weights
    if result.folds:
        facts["folds"] = len(result.folds)
    if result.measures is not None:
        name = "folds_accuracy" if result.folds else "held_out_accuracy"
        facts[name] = round(result.measures.accuracy, 4)
    return facts


def check_origin(bundle: Bundle, infos: tuple[Info, ...]) -> None:
    """Refuses tokens and features of which none is of a bundle's model.

    Raises:
        InputError: It names what made them.
    """
    manifest = bundle.manifest
    weights = manifest.component.weights
    if any(_is_of(bundle, info) for info in infos):
        return
    kind = "tokens" if isinstance(infos[0], TokenFileInfo) else "features"
    command = "tokenize" if kind == "tokens" else "features"
    raise InputError(
        f"these {kind} were made by another model or other weights than this bundle's",
        found="; ".join(f"{info.model}, {info.weights}" for info in infos),
        expected=f"{manifest.model}, {weights.name}",
        mend=f"magvit {command} {bundle.path} …",
    )


def _is_of(bundle: Bundle, info: Info) -> bool:
    manifest = bundle.manifest
    made_by = (info.model, info.weights_sha256)
    if made_by != (manifest.model, manifest.component.weights.sha256):
        return False
    return not isinstance(info, TokenFileInfo) or info.quantizer == bundle.tokens.quantizer
