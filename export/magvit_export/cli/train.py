"""`magvit train`: a classifier, or the tokenizer itself."""

from __future__ import annotations

from cyclopts import App

from magvit_export.cli.train_classifier import classifier
from magvit_export.cli.train_tokenizer import tokenizer

train = App(name="train", help="Trains a classifier, or a tokenizer on trajectories.")
train.command(classifier)
train.command(tokenizer)
