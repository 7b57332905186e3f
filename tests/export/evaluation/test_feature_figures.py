"""LPIPS, rFID and rFVD with random networks, beside their definitions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from magvit_export.evaluation.frechet import FrechetDistance
from magvit_export.evaluation.lpips import Lpips
from magvit_runtime.errors import InputError


class Trunk(torch.nn.Module):
    """Features of pictures, as the published Inception gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 3)

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        features = self.conv(images.float() / 255).mean((2, 3))
        return features if return_features else features[:, :1]


class VideoTrunk(torch.nn.Module):
    """Features of videos, as the published I3D gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv3d(3, 4, 3)

    def forward(
        self,
        videos: torch.Tensor,
        rescale: bool = False,
        resize: bool = False,
        return_features: bool = False,
    ) -> torch.Tensor:
        if not (rescale and resize and return_features):
            return torch.zeros(len(videos), 1)
        return self.conv(videos.float() / 127.5 - 1).mean((2, 3, 4))


class Scaled(torch.nn.Module):
    """Features whose squared distance is LPIPS."""

    def forward(self, images: torch.Tensor, return_lpips: bool = False) -> torch.Tensor:
        scale = 2.0 if return_lpips else 1.0
        return scale * images.float().mean((2, 3)) / 255


class Paired(torch.nn.Module):
    """A distance of two pictures in -1..1, as `lpips.LPIPS` gives it."""

    def forward(self, in0: torch.Tensor, in1: torch.Tensor) -> torch.Tensor:
        return (in0 - in1).abs().mean((1, 2, 3), keepdim=True)


def save(module: torch.nn.Module, path: Path) -> Path:
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    torch.jit.script(module).save(str(path))
    return path


def clips(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """By the definition: the trace of a root of a product is the sum of its roots' eigenvalues."""
    mean = np.sum((first.mean(0) - second.mean(0)) ** 2)
    one, two = np.cov(first.T), np.cov(second.T)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(one @ two).real, 0)).sum()
    return float(mean + np.trace(one) + np.trace(two) - 2 * roots)


@pytest.mark.parametrize(("name", "shape"), [("rFID", (40, 2)), ("rFVD", (40, 4))])
def test_a_frechet_distance_is_that_of_the_features(
    tmp_path: Path, name: str, shape: tuple[int, int]
) -> None:
    original, decoded = clips(1, *shape, 12, 12, 3), clips(2, *shape, 12, 12, 3) // 2
    module = Trunk() if name == "rFID" else VideoTrunk()
    distance = FrechetDistance(name, save(module, tmp_path / "network.pt"))
    for first in range(0, 40, 10):
        distance.add(original[first : first + 10], decoded[first : first + 10])
    axes = (0, 4, 1, 2, 3)
    with torch.inference_mode():
        features = []
        for side in (original, decoded):
            if name == "rFID":
                pixels = side.reshape(-1, 12, 12, 3).transpose(0, 3, 1, 2)
                features.append(module(torch.from_numpy(pixels.copy()), True).numpy())
            else:
                pixels = side.transpose(axes)
                features.append(module(torch.from_numpy(pixels.copy()), True, True, True).numpy())
    expected = frechet(features[0].astype(np.float64), features[1].astype(np.float64))
    assert distance.value().value == pytest.approx(expected, rel=1e-4)


def test_lpips_is_the_squared_distance_of_scaled_features(tmp_path: Path) -> None:
    measure = Lpips(save(Scaled(), tmp_path / "vgg16.pt"))
    original = np.zeros((3, 2, 8, 8, 3), np.uint8)
    decoded = original.copy()
    decoded[0] = 255
    decoded[1, 0] = 255
    measure.add(original, decoded)
    # Each channel of a white frame is 2 away: 12 a frame, in 2 of 2, 1 of 2 and no frames.
    assert measure.value().value == pytest.approx((12 + 6 + 0) / 3)
    assert measure.value().low < 6 < measure.value().high


def test_lpips_of_two_pictures_gets_them_between_minus_one_and_one(tmp_path: Path) -> None:
    measure = Lpips(save(Paired(), tmp_path / "lpips.pt"))
    measure.add(np.zeros((2, 8, 8, 3), np.uint8), np.full((2, 8, 8, 3), 255, np.uint8))
    assert measure.value().value == pytest.approx(2)


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="no feature network"):
        Lpips(tmp_path / "weights.pt")


def test_a_network_of_other_inputs_is_refused(tmp_path: Path) -> None:
    distance = FrechetDistance("rFID", save(VideoTrunk(), tmp_path / "i3d.pt"))
    with pytest.raises(InputError, match="doesn't take these clips"):
        distance.add(clips(3, 2, 12, 12, 3), clips(4, 2, 12, 12, 3))


def test_rfvd_of_pictures_and_of_one_clip_are_refused(tmp_path: Path) -> None:
    distance = FrechetDistance("rFVD", save(VideoTrunk(), tmp_path / "i3d.pt"))
    with pytest.raises(InputError, match="rFVD is of videos"):
        distance.add(clips(5, 2, 12, 12, 3), clips(6, 2, 12, 12, 3))
    distance.add(clips(5, 1, 4, 12, 12, 3), clips(6, 1, 4, 12, 12, 3))
    with pytest.raises(InputError, match="more than one clip"):
        distance.value()
