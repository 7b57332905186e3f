"""What coordinates alone say of a class: baselines that see no clip.

They get all coordinates that a file has: of points in space x, y and z, which a camera flattens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from magvit_runtime.clips.trajectories import Trajectory
from magvit_runtime.errors import InputError

POINTS = 32
# Of the net: enough for its training loss to settle on every data set of docs/accuracy.md.
STEPS, BATCH, RATE = 800, 64, 3e-3
SMOOTHING = 0.1
# How training paths are varied each time: every axis mixes a little of the others into itself,
# which turns, scales and shears; and every point shakes.
_MIX, _SHAKE = 0.1, 0.02

Floats = NDArray[np.float32]


def coordinates(trajectories: Sequence[Trajectory], points: int = POINTS) -> Floats:
    """Positions evenly spaced in time, linear between the points that there are.

    Returns:
        float32 [N, C, points]: x, y; in space x, y, z; of boxes x and y of the middle, w, h.

    Raises:
        InputError: Some are in space or boxes, and others aren't.
    """
    kinds = sorted({item.kind for item in trajectories})
    if len(kinds) != 1:
        raise InputError("trajectories of several kinds can't be compared", found=", ".join(kinds))
    return np.stack([_resampled(item, points) for item in trajectories]).astype(np.float32)


def centred(paths: Floats) -> Floats:
    """Paths [N, C, points] as clips show them: around 0, and as large as each other."""
    middle = (paths.max(axis=2) + paths.min(axis=2)) / 2
    moved = paths - middle[:, :, None]
    size = np.abs(moved).max(axis=(1, 2))
    out: Floats = moved / np.where(size > 0, size, 1)[:, None, None]
    return out


def nearest_neighbor(train: Floats, truth: NDArray[np.int64], test: Floats, classes: int) -> Floats:
    """Probabilities [len(test), K] of 0 and 1: the class of the nearest training path."""
    from sklearn.neighbors import KNeighborsClassifier

    nearest = KNeighborsClassifier(n_neighbors=1).fit(train.reshape(len(train), -1), truth)
    found: Floats = np.eye(classes, dtype=np.float32)[nearest.predict(test.reshape(len(test), -1))]
    return found


class PathNet(nn.Module):
    """A small 1-D CNN over positions and steps, with mean and maximum over time.

    Three convs with batch norms, as the fully convolutional network of Wang, Yan and Oates, "Time
    series classification from scratch", 2017.

    Args:
        axes: C.
        num_classes: K.
    """

    def __init__(self, axes: int, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, width in ((2 * axes, 64, 7), (64, 96, 5), (96, 96, 3)):
            conv = nn.Conv1d(before, after, width, padding=width // 2, bias=False)
            layers += [conv, nn.BatchNorm1d(after), nn.ReLU()]
        self.convs = nn.Sequential(*layers)
        self.head = nn.Linear(2 * 96 + 2 * axes, num_classes)

    def forward(self, paths: Tensor) -> Tensor:
        """float32 [N, C, points] -> logits [N, K]."""
        steps = torch.diff(paths, dim=2, prepend=paths[:, :, :1]) * 8
        maps = self.convs(torch.cat([paths, steps], dim=1))
        ends = torch.cat([paths[:, :, 0], paths[:, :, -1]], dim=1)
        logits: Tensor = self.head(torch.cat([maps.mean(dim=2), maps.amax(dim=2), ends], dim=1))
        return logits


def path_net(
    train: Floats, truth: NDArray[np.int64], test: Floats, classes: int, seed: int, steps: int
) -> Floats:
    """Probabilities [len(test), K] of a `PathNet` that is trained on paths, each time varied.

    Args:
        train: [N, C, points], of `centred`.
        truth: [N] in 0 .. K-1.
        test: Paths to predict.
        classes: K.
        seed: Of start weights, order and variations.
        steps: Of gradient descent.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = PathNet(train.shape[1], classes)
        _descend(net, torch.from_numpy(train), torch.from_numpy(truth), steps)
        with torch.inference_mode():
            probabilities = net.eval()(torch.from_numpy(test)).softmax(dim=1)
    found: Floats = probabilities.numpy()
    return found


def _descend(net: PathNet, paths: Tensor, truth: Tensor, steps: int) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.02)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(paths), (BATCH,))
        optimizer.zero_grad()
        logits = net(_varied(paths[rows]))
        loss = nn.functional.cross_entropy(logits, truth[rows], label_smoothing=SMOOTHING)
        torch.autograd.backward(loss)
        optimizer.step()
        rates.step()


def _varied(paths: Tensor) -> Tensor:
    axes = paths.shape[1]
    mixes = torch.eye(axes) + _MIX * torch.randn(len(paths), axes, axes)
    return mixes @ paths + _SHAKE * torch.randn(paths.shape)


def _resampled(item: Trajectory, points: int) -> NDArray[np.float64]:
    further = [item.z[:, None]] if item.z is not None else []
    further += [item.size] if item.size is not None else []
    values = np.concatenate([item.xy, *further], axis=1)
    at = np.linspace(item.t[0], item.t[-1], points)
    return np.stack([np.interp(at, item.t, column) for column in values.T])
