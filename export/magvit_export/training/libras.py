"""The real trajectories that ship with the package: the UCI Libras Movement data.

CC BY 4.0: D. B. Dias, S. M. Peres, H. H. Bíscaro, 2009, https://doi.org/10.24432/C5GC82.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.files.atomic_write import atomic_path

CLASS_NAMES = (
    "curved swing",
    "horizontal swing",
    "vertical swing",
    "anti-clockwise arc",
    "clockwise arc",
    "circle",
    "horizontal line",
    "vertical line",
    "horizontal zigzag",
    "vertical zigzag",
    "horizontal wave",
    "vertical wave",
    "face-up curve",
    "face-down curve",
    "tremble",
)


@dataclass(frozen=True)
class Libras:
    """330 distinct hand movements.

    Attributes:
        xy: float32 [330, 45, 2], in 0..1 of the camera's picture.
        labels: Class of each.
    """

    xy: NDArray[np.float32]
    labels: tuple[str, ...]

    def spread(self, count: int | None) -> Libras:
        """About `count` of the movements, evenly spaced, so that the classes share them."""
        step = 1 if count is None else max(1, len(self.labels) // count)
        return Libras(self.xy[::step], self.labels[::step])


def load_libras() -> Libras:
    """The movements, each once, in the order of the data set."""
    with (files("magvit_export") / "data" / "libras.npz").open("rb") as file:
        arrays = np.load(file)
        xy, label = arrays["xy"], arrays["label"]
    _, first = np.unique(xy.reshape(len(xy), -1), axis=0, return_index=True)
    kept = np.sort(first)
    return Libras(xy[kept], tuple(CLASS_NAMES[i - 1] for i in label[kept]))


def write_libras_csv(path: Path, data: Libras) -> None:
    """Writes the movements as users have theirs: one row a point, columns id, x, y, label."""
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "x", "y", "label"])
        for i, (points, label) in enumerate(zip(data.xy, data.labels, strict=True)):
            table.writerows([f"libras-{i:03}", x, y, label] for x, y in points.tolist())


def nearest_neighbor_accuracy(
    xy: NDArray[np.float32],
    labels: tuple[str, ...],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
) -> float:
    """Share of test rows whose nearest training row, by raw coordinates, has their class, 0..1."""
    flat = xy.reshape(len(xy), -1).astype(np.float64)
    distances = ((flat[test, None] - flat[None, train]) ** 2).sum(axis=2)
    nearest = train[distances.argmin(axis=1)]
    return float(np.mean([labels[i] == labels[j] for i, j in zip(test, nearest, strict=True)]))
