"""Prints docs/parity.md's table of accuracies: do the flips of a rung matter to a classifier?

python docs/measure/ladder_accuracy.py
python docs/measure/ladder_accuracy.py --smoke

A classifier is trained on the float32 tokens of three quarters of the Libras clips
(trajectory-small, seeded weights). The last quarter is tokenized at every rung and classified. This
takes 20 minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import numpy as np
import torch
from numpy.typing import NDArray
from parity.simulated_precision import RUNGS
from precision_ladder import draw, encoder_at, latents_of

from magvit_export.layers.lfq import quantize
from magvit_export.libras import CLASS_NAMES, load_libras
from magvit_export.training.classifier import TrajectoryClassifier
from magvit_export.training.options import TrainingOptions
from magvit_export.training.ridge import fit_linear
from magvit_export.training.splitting import split_by_class

MODEL, BITS = "trajectory-small", 18
TRAINED_ON = next(iter(RUNGS))


def ids_of(rung: str, clips: NDArray[np.uint8]) -> torch.Tensor:
    """int32 ids [N, 5, 16, 16]."""
    encoder = encoder_at(rung, MODEL)
    return torch.cat([quantize(torch.from_numpy(latents_of(encoder, clip))) for clip in clips])


def trained(ids: torch.Tensor, classes: torch.Tensor) -> TrajectoryClassifier:
    """Trains as `magvit train classifier` does."""
    grid = tuple(ids.shape[1:])
    model = TrajectoryClassifier(2**BITS, num_classes=len(CLASS_NAMES), grid=grid)
    with torch.no_grad():
        fit = fit_linear(model.features(ids), classes, len(CLASS_NAMES))
        model.head.weight.copy_(fit.weight)
        model.head.bias.copy_(fit.bias)
    return model


def main() -> None:
    data = load_libras()
    classes = np.array([CLASS_NAMES.index(label) for label in data.labels])
    options = TrainingOptions()
    rows = np.arange(len(classes))
    train, test = split_by_class(classes, rows, options.share, options.seed)
    rungs = list(RUNGS)
    if "--smoke" in sys.argv:  # Only shows that the script works.
        train, test, rungs = train[:30], test[:2], rungs[:1]
    clips = draw(data)
    truth = torch.from_numpy(classes)
    classifier = trained(ids_of(TRAINED_ON, clips[train]), truth[train])
    print("| tokens | accuracy | predictions changed | largest change of a probability |")
    print("|---|---|---|---|")
    exact: torch.Tensor | None = None
    for rung in rungs:
        with torch.inference_mode():
            probabilities = classifier(ids_of(rung, clips[test])).softmax(dim=1)
        exact = probabilities if exact is None else exact
        predicted = probabilities.argmax(dim=1)
        right = int((predicted == truth[test]).sum())
        changed = int((predicted != exact.argmax(dim=1)).sum())
        largest = (probabilities - exact).abs().max().item()
        count = len(test)
        print(
            f"| {rung} | {right} of {count}, {right / count:.1%} | {changed} of {count} "
            f"| {largest:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
