"""Feature networks as they are published: one TorchScript file with weights and code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from magvit_runtime.errors import InputError, first_line

# What the published files are asked for, where their `forward` has it: features rather than
# classes, in the sizes that they were trained on, of pixels in 0..255.
_ASKED = {"return_features": True, "resize": True, "rescale": True}


class FeatureNetwork(torch.nn.Module):
    """A TorchScript module of pictures or videos in 0..255.

    Args:
        path: The file. TorchScript runs no Python.

    Raises:
        InputError: It is no TorchScript file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            self.network = torch.jit.load(str(path), map_location="cpu").eval()
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"{path} is no feature network",
                found=first_line(error),
                expected="a TorchScript file, as torch.jit.save writes it",
            ) from error
        self.path = path
        schema = self.network.forward.schema
        self.arguments = tuple(argument.name for argument in schema.arguments[1:])

    def forward(self, pixels: torch.Tensor, **options: Any) -> torch.Tensor:
        """Features of pictures.

        Args:
            pixels: uint8 [N, 3, H, W], or [N, 3, T, H, W] for a network of videos.
            options: Further arguments of the network's own.

        Returns:
            float32 [N, features].

        Raises:
            InputError: The network doesn't take such pixels, or gives something else.
        """
        asked = {name: value for name, value in _ASKED.items() if name in self.arguments}
        with torch.inference_mode():
            try:
                features = self.network(pixels, **asked, **options)
            except RuntimeError as error:
                raise InputError(
                    f"{self.path} doesn't take these clips", found=first_line(error)
                ) from error
        if not isinstance(features, torch.Tensor) or len(features) != len(pixels):
            raise InputError(
                f"{self.path} gives no features",
                found=getattr(features, "shape", type(features).__name__),
                expected=f"one row a clip, [{len(pixels)}, features]",
            )
        return features.flatten(1).float()


def pictures(clips: NDArray[np.uint8]) -> torch.Tensor:
    """Every frame as a picture: uint8 [N, (T,) H, W, 3] to [N T, 3, H, W]."""
    frames = clips.reshape(-1, *clips.shape[-3:])
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


def videos(clips: NDArray[np.uint8]) -> torch.Tensor:
    """Clips as videos: uint8 [N, T, H, W, 3] to [N, 3, T, H, W].

    Raises:
        InputError: They are pictures.
    """
    if clips.ndim != 5:
        raise InputError("rFVD is of videos", found=f"pictures, {list(clips.shape)}")
    return torch.from_numpy(np.ascontiguousarray(clips.transpose(0, 4, 1, 2, 3)))
