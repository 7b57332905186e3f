"""A bundle to be served, and a folder for servers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from magvit_runtime import Tokenizer, open_bundle
from magvit_runtime.bundle.canary import CanaryItem, write_canary
from magvit_runtime.results.token_files import TokenTable, token_file_info


@pytest.fixture(scope="session")
def served_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a classifier of clips of 3 frames of 16 x 24 pixels, and a canary of the encoder."""
    from magvit_export.training.classifier_training import train_classifier
    from magvit_export.training.options import TrainingOptions

    path = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("served") / "bundle"))
    random = np.random.default_rng(0)
    with Tokenizer.open(path) as tokenizer:
        given = random.integers(0, 256, (1, 3, 32, 32, 3), np.uint8)
        outputs = {"ids": tokenizer(given), "latents": tokenizer.latents(given)}
        tokens = tokenizer(random.integers(0, 256, (12, 3, 16, 24, 3), np.uint8))
    noise = CanaryItem("noise", given, outputs)
    assert write_canary(open_bundle(path), "encode", [noise], "itself")
    info = token_file_info(open_bundle(path), tokens.shape[1:])
    table = TokenTable(info, tuple(map(str, range(12))), ("kreis", "größe") * 6, tokens)
    train_classifier(path, table, TrainingOptions(holdout=0, epochs=1))
    return path


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes what `running` needs of a server, once for all."""
    return tmp_path_factory.mktemp("triton")
