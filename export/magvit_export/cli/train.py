"""`magvit train`: a classifier learns from tokens, or the tokenizer itself from trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cyclopts import App

from magvit_export.cli.train_tokenizer import tokenizer
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.cli.outcome import Outcome

train = App(name="train", help="Trains a classifier on tokens, or a tokenizer on trajectories.")
train.command(tokenizer)


@train.command
def classifier(
    bundle: Path,
    tokens: Path,
    *,
    embedding: Literal["bits", "factorized", "table"] = "bits",
    width: int = 18,
    holdout: float = 0.25,
    epochs: int = 0,
    learning_rate: float = 1e-4,
    seed: int = 0,
) -> Outcome:
    """Trains a classifier on labelled tokens, and exports it into the bundle.

    Args:
        bundle: Directory of the model that made the tokens.
        tokens: Token file with labels, from `magvit tokenize`.
        embedding: How ids enter: their bits, two small tables, or one large table.
        width: Features a token.
        holdout: Share of each class that is kept out of training, to measure accuracy on.
        epochs: Gradient descent on all weights after the closed-form fit.
        learning_rate: Of that gradient descent.
        seed: Chooses the split.
    """
    from magvit_export.training.classifier_training import (
        CLASSIFIER_FILE,
        TrainingOptions,
        train_classifier,
    )
    from magvit_runtime.bundle.reading import MANIFEST_NAME, open_bundle
    from magvit_runtime.files.outputs import check_outputs
    from magvit_runtime.results.token_files import read_tokens

    written = (MANIFEST_NAME, CLASSIFIER_FILE, Path(CLASSIFIER_FILE).with_suffix(".data"))
    check_outputs(*(bundle / name for name in written), inputs=(tokens,))
    options = TrainingOptions(embedding, width, holdout, epochs, learning_rate, seed)
    result = train_classifier(bundle, read_tokens(tokens), options)
    label = weights_label(open_bundle(bundle))
    facts = {
        "bundle": str(bundle),
        "classes": list(result.classes),
        "clips": len(result.train),
        "held_out_clips": len(result.held_out),
        "train_accuracy": result.train_accuracy,
        "held_out_accuracy": result.held_out_accuracy,
        "weights": label,
    }
    text = (
        f"{len(result.classes)} classes, trained on {len(result.train)} clips -> {bundle}\n"
        f"accuracy {result.train_accuracy:.1%} on those"
    )
    if result.held_out_accuracy is not None:
        text += f", {result.held_out_accuracy:.1%} on {len(result.held_out)} held out"
    return Outcome(facts, f"{text}\ntokens of {label}")
