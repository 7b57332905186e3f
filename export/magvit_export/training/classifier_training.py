"""Makes a classifier in the bundle from tokens and labels: all of `magvit train classifier`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from magvit_export.bundle_writer import file_records, publish, staging_directory
from magvit_export.onnx.export import export_onnx
from magvit_export.training.classifier import (
    EmbeddingKind,
    ExportedClassifier,
    TrajectoryClassifier,
)
from magvit_export.training.ridge import fit_linear
from magvit_runtime.bundle.manifest import GraphRecord, Head, Manifest, TensorSpec
from magvit_runtime.bundle.reading import Bundle, graph_sha256, open_bundle
from magvit_runtime.bundle.schema_one import SchemaOne
from magvit_runtime.bundle.writing import refuse_store
from magvit_runtime.classifier import CLASSIFIER
from magvit_runtime.clips.trajectories.camera import trajectory_of
from magvit_runtime.errors import InputError
from magvit_runtime.quantizers import vocabulary_size
from magvit_runtime.results.token_files import TokenFileInfo, TokenTable

MAX_CLIPS_FOR_RIDGE = 20_000
CLASSIFIER_FILE = "classify.fp32.onnx"


@dataclass(frozen=True)
class TrainingOptions:
    """How a classifier is trained.

    Attributes:
        embedding: How ids enter.
        width: Features per token.
        holdout: Share of each class that is kept out of training, 0 .. 1.
        epochs: Epochs of gradient descent on all weights after the closed-form fit; 0 does only the
            fit.
        learning_rate: The learning rate of that gradient descent (AdamW).
        seed: Chooses the split, and the tables of "factorized" and "table".
    """

    embedding: EmbeddingKind = "bits"
    width: int = 18
    holdout: float = 0.25
    epochs: int = 0
    learning_rate: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.holdout < 1:
            raise InputError("`holdout` is out of range", found=self.holdout, expected="0 ≤ … < 1")
        if self.width < 1 or self.epochs < 0 or not self.learning_rate > 0:
            raise InputError("`width`, `epochs` or `learning_rate` is out of range")


@dataclass(frozen=True)
class TrainingResult:
    """A trained classifier's record.

    Attributes:
        classes: Name of each class, in order.
        train: Rows of the token table that it was trained on.
        held_out: Rows that were kept out.
        train_accuracy: Share of the training rows predicted right, 0..1.
        held_out_accuracy: Share of the held-out rows predicted right; None if there are none.
    """

    classes: tuple[str, ...]
    train: NDArray[np.intp]
    held_out: NDArray[np.intp]
    train_accuracy: float
    held_out_accuracy: float | None


def train_classifier(
    bundle_path: Path, table: TokenTable, options: TrainingOptions
) -> TrainingResult:
    """Trains a classifier on labelled tokens and exports it into their bundle.

    Clips without a label take no part.

    Raises:
        InputError: The tokens aren't this bundle's, or are too few.
        BundleError: There is no sound bundle at `bundle_path`.
    """
    bundle = open_bundle(bundle_path)
    refuse_store(bundle_path)
    _check_origin(bundle, table)
    classes, targets = classes_of(table.labels)
    if len(classes) < 2:
        raise InputError("training needs labels of two classes at least", found=f"{len(classes)}")
    labelled = np.flatnonzero(targets >= 0)
    views = table.info.drawing.views if table.info.drawing else 1
    groups = _trajectories(table, views)
    train, held_out = split_by_class(targets, labelled, options.holdout, options.seed, groups)
    tokens = torch.from_numpy(table.tokens.astype(np.int32))
    truth = torch.from_numpy(targets)
    torch.manual_seed(options.seed)
    model = TrajectoryClassifier(
        vocabulary_size(table.info.quantizer),
        options.embedding,
        num_classes=len(classes),
        grid=table.info.grid,
        width=options.width,
    )
    seen_by = torch.from_numpy(groups)
    _fit(model, tokens[train], truth[train], seen_by[train], options)
    train_accuracy = _accuracy(model, tokens[train], truth[train], seen_by[train])
    held_out_accuracy = (
        _accuracy(model, tokens[held_out], truth[held_out], seen_by[held_out])
        if len(held_out)
        else None
    )
    training: dict[str, str | int | float] = {
        "clips": len(train),
        "held_out_clips": len(held_out),
        "train_accuracy": round(train_accuracy, 4),
        "epochs": options.epochs,
        "seed": options.seed,
    }
    if views > 1:
        training["views"] = views
    if held_out_accuracy is not None:
        training["held_out_accuracy"] = round(held_out_accuracy, 4)
    _export(bundle, model, classes, table.info, options.embedding, training)
    return TrainingResult(classes, train, held_out, train_accuracy, held_out_accuracy)


def split_by_class(
    targets: NDArray[np.int64],
    rows: NDArray[np.intp],
    holdout: float,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Splits rows so that each class keeps its share; at least one row per class is trained on.

    Args:
        targets: Class of every row of the table.
        rows: Rows to split.
        holdout: Share of each class to hold out.
        seed: Chooses the split.
        groups: Of every row of the table; rows of one group, as views of one trajectory, stay on
            one side. By default each row is alone.

    Returns:
        (train, held_out): rows in ascending order.
    """
    random = np.random.default_rng(seed)
    groups = np.arange(len(targets)) if groups is None else groups
    held_out: list[NDArray[np.int64]] = []
    for target in np.unique(targets[rows]):
        members = random.permutation(np.unique(groups[rows[targets[rows] == target]]))
        count = min(round(len(members) * holdout), len(members) - 1)
        held_out.append(members[:count])
    is_kept_out = np.isin(groups[rows], np.concatenate(held_out) if held_out else [])
    return np.sort(rows[~is_kept_out]), np.sort(rows[is_kept_out])


def _trajectories(table: TokenTable, views: int) -> NDArray[np.int64]:
    """A number for the trajectory of each row; rows that are views of one share it."""
    names = [trajectory_of(name, views) for name in table.ids]
    if views == 1:  # Whether or not ids repeat.
        return np.arange(len(names))
    # In the order of the rows, whatever the names are.
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64)


def _check_origin(bundle: Bundle, table: TokenTable) -> None:
    manifest = bundle.manifest
    weights = manifest.component.weights
    made_by = (table.info.model, table.info.weights_sha256, table.info.quantizer)
    expected = (manifest.model, weights.sha256, bundle.tokens.quantizer)
    if made_by != expected:
        raise InputError(
            "these tokens were made by another model or other weights than this bundle's",
            found=f"{table.info.model}, {table.info.weights}",
            expected=f"{manifest.model}, {weights.name}",
            mend=f"magvit tokenize {bundle.path} …",
        )


def classes_of(
    labels: Sequence[str | None],
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The names of all classes in order, and each label's place among them; -1 without a label."""
    names = tuple(sorted({label for label in labels if label is not None}, key=_natural))
    place = {name: i for i, name in enumerate(names)}
    targets = [-1 if label is None else place[label] for label in labels]
    return names, np.array(targets, np.int64)


def _natural(label: str) -> tuple[int, str]:
    """Orders numbers by value, before words."""
    return (int(label), "") if label.isdecimal() else (2**62, label)


def _fit(
    model: TrajectoryClassifier,
    ids: Tensor,
    truth: Tensor,
    groups: Tensor,
    options: TrainingOptions,
) -> None:
    if len(ids) > MAX_CLIPS_FOR_RIDGE:
        raise InputError(
            "the closed-form fit takes too many clips",
            found=len(ids),
            expected=f"at most {MAX_CLIPS_FOR_RIDGE}",
            mend="raise --holdout",
        )
    with torch.no_grad():
        fit = fit_linear(model.features(ids), truth, model.head.out_features, groups)
        model.head.weight.copy_(fit.weight)
        model.head.bias.copy_(fit.bias)
    optimizer = torch.optim.AdamW(model.parameters(), options.learning_rate)
    for _ in range(options.epochs):
        for rows in torch.split(torch.randperm(len(ids)), 32):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(ids[rows]), truth[rows])
            torch.autograd.backward(loss)
            optimizer.step()


@torch.no_grad()
def _accuracy(model: TrajectoryClassifier, ids: Tensor, truth: Tensor, groups: Tensor) -> float:
    """Share of groups whose mean probabilities are highest for their class."""
    found = torch.cat([model(part).softmax(dim=1) for part in torch.split(ids, 256)])
    _, first, numbers = np.unique(groups.numpy(), return_index=True, return_inverse=True)
    # The number of views is the same for all, so the sum has its highest where the mean has.
    pooled = torch.zeros(len(first), found.shape[1]).index_add(0, torch.from_numpy(numbers), found)
    predicted = pooled.argmax(dim=1)
    return (predicted == truth[torch.from_numpy(first)]).double().mean().item()


def _export(
    bundle: Bundle,
    model: TrajectoryClassifier,
    classes: Sequence[str],
    info: TokenFileInfo,
    embedding: EmbeddingKind,
    training: dict[str, str | int | float],
) -> None:
    vocabulary = vocabulary_size(bundle.tokens.quantizer)
    grid = info.grid
    with staging_directory(bundle.path) as staging:
        files = export_onnx(
            ExportedClassifier(model).eval().requires_grad_(False),
            (torch.zeros(2, *grid, dtype=torch.int32),),
            staging / CLASSIFIER_FILE,
            input_names=["ids"],
            output_names=["probabilities"],
            dynamic=[{0: "batch"}],
        )
        graph = GraphRecord(
            file=files[0].name,
            data=tuple(path.name for path in files[1:]),
            inputs=(
                TensorSpec("ids", "int32", ("batch", *grid), "ids", "token ids", 0, vocabulary - 1),
            ),
            outputs=(
                TensorSpec(
                    "probabilities",
                    "float32",
                    ("batch", len(classes)),
                    "probabilities",
                    "of each class",
                    0,
                    1,
                ),
            ),
        )
        head = Head(
            graph="classify",
            labels=tuple(classes),
            embedding=embedding,
            training=training,
            trained_on={
                precision: graph_sha256(bundle, encoder)
                for precision, encoder in bundle.graphs("encode").items()
            },
            drawing=info.drawing,
        )
        records = file_records(files)

        def updated(manifest: Manifest | SchemaOne | None) -> Manifest:
            components = bundle.manifest.components
            if not isinstance(manifest, Manifest) or manifest.components != components:
                raise InputError(f"{bundle.path} holds another model now", mend="train again")
            return msgspec.structs.replace(
                manifest,
                graphs={**manifest.graphs, "classify": {"fp32": graph}},
                files={**manifest.files, **records},
                heads={**manifest.heads, CLASSIFIER: head},
            )

        publish(bundle.path, files, updated)
