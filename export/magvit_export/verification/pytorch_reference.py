"""PyTorch in float64, with a bundle's own weights: the reference that no export has touched."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from magvit_export.catalog import find_model
from magvit_export.checkpoints.weights import find_weights
from magvit_export.exporting import load_encoder
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.families.magvit.encoder import Encoder
from magvit_export.families.magvit.tokenizer import empty_tokenizer, encode_frames
from magvit_runtime.bundle import EXPORT_AGAIN, Bundle
from magvit_runtime.errors import BundleError, InputError
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.manifest import WeightsRecord
from magvit_runtime.verification_references import Reference
from magvit_runtime.weights_label import weights_label


def pytorch_reference(bundle: Bundle, weights: str | None = None) -> Reference:
    """The encoder of a bundle in PyTorch; see `reference_encoder`."""
    encoder = reference_encoder(bundle, weights)

    def latents(frames: NDArray[np.uint8]) -> NDArray[np.floating]:
        with torch.inference_mode():
            result: NDArray[np.float64] = encode_frames(encoder, torch.from_numpy(frames)).numpy()
        return result

    name = f"PyTorch float64, {weights_label(bundle)}"
    return Reference(name, latents, {"torch": str(torch.__version__)})


def reference_encoder(bundle: Bundle, weights: str | None = None) -> Encoder:
    """The encoder of a bundle in PyTorch, in float64; see `pytorch_encoder`."""
    return pytorch_encoder(bundle, weights).double()


def pytorch_encoder(bundle: Bundle, weights: str | None = None) -> Encoder:
    """The encoder of a bundle in PyTorch, in float32 on the CPU, for inference.

    Args:
        bundle: The bundle; its manifest says the architecture and which weights it must be.
        weights: Path of the checkpoint, "hub", "seeded" or "seeded:N". None generates the weights
            of a seeded bundle.

    Raises:
        InputError: Weights are needed, or these aren't the bundle's.
        BundleError: The manifest's config is none of this family.
        CheckpointError: The checkpoint can't be read.
    """
    recorded = bundle.manifest.weights
    if weights is None and not bundle.is_seeded:
        raise InputError(
            f"PyTorch needs the weights that {bundle.path} was made of",
            expected=f"{recorded.name}, sha256 {recorded.sha256}",
            mend=f"magvit verify {bundle.path} --against pytorch --weights PATH",
        )
    try:
        config = msgspec.convert(bundle.manifest.config, TokenizerConfig)
    except msgspec.ValidationError as error:
        raise BundleError(
            f"the config in {bundle.path} is no tokenizer's", found=str(error), mend=EXPORT_AGAIN
        ) from error
    model = empty_tokenizer(config)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    source = recorded.name if weights is None else weights
    if not bundle.is_seeded and Path(source).is_file():  # Cheaper to compare than to load.
        _check_weights(bundle, WeightsRecord("file", source, sha256=file_sha256(Path(source))))
    found = find_weights(source, find_model(bundle.manifest.model), shapes, recorded.variant)
    _check_weights(bundle, found.record)
    return load_encoder(model.encoder, found).eval()


def _check_weights(bundle: Bundle, found: WeightsRecord) -> None:
    recorded = bundle.manifest.weights
    if bundle.is_seeded:
        same = (found.source, found.name) == ("seeded", recorded.name)
    else:
        same = found.sha256 == recorded.sha256
    if not same:
        raise InputError(
            f"these aren't the weights that {bundle.path} was made of",
            found=found.name if found.sha256 is None else f"{found.name}, sha256 {found.sha256}",
            expected=recorded.name
            if recorded.sha256 is None
            else f"{recorded.name}, sha256 {recorded.sha256}",
            mend="give those to --weights, or export a bundle from these",
        )
