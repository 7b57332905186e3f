"""What a bundle's encoder gives in PyTorch, in float64: for scripts that compare on their own.

`magvit verify` compares with the same.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from magvit_export.verification.pytorch_reference import pytorch_reference as _reference
from magvit_export.verification.pytorch_reference import pytorch_role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.verification.references import Reference


class PytorchEncoder:
    """A bundle's encoder in PyTorch, in float64 on the CPU: minutes a clip at the released size.

    Args:
        reference: Runs it.
    """

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Token ids of clips, as `Tokenizer` gives them."""
        return cast(NDArray[np.int32], self._reference.run(clips)["ids"])

    def latents(self, clips: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Latents of clips before quantization: float64 [N, channels, t, h, w].

        Args:
            clips: uint8 RGB in 0..255, [N, T, H, W, 3], or [N, H, W, 3] for an image model.
        """
        return cast(NDArray[np.float64], self._reference.run(clips)["latents"])


def pytorch_reference(bundle: Bundle, weights: str | None = None) -> PytorchEncoder:
    """A bundle's encoder in PyTorch.

    Args:
        bundle: The bundle; its manifest says the architecture and which weights it must be.
        weights: Path of the checkpoint, "hub", "seeded" or "seeded:N". None generates the weights
            of a seeded bundle.

    Raises:
        InputError: Weights are needed, or these aren't the bundle's; its family isn't installed.
        BundleError: The manifest's config is none of its family.
        CheckpointError: The checkpoint can't be read.
    """
    return PytorchEncoder(_reference(bundle, pytorch_role(bundle, "encode", weights)))
