"""VideoMAE as a `Family` of the exporter."""

from __future__ import annotations

import torch
from torch import Tensor

from magvit_export.families.family import ClipSizes, Family, RoleExport, refuse_other_sizes
from magvit_export.families.videomae.config import VideoMaeConfig, read_folder
from magvit_export.families.videomae.model import ExportedFeatures, empty_model, set_precision
from magvit_runtime.bundle.manifest import Preprocessing, TensorSpec

_TRACED_BATCH = 2  # 1 would be taken for a constant.


def _inputs(config: VideoMaeConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    refuse_other_sizes(sizes, _nominal(config))
    clip = (config.num_frames, *config.image_size, 3)
    return (
        TensorSpec(
            "frames", "uint8", (sizes.batch or "batch", *clip), "pixels", "RGB frames", 0, 255
        ),
    )


def _outputs(config: VideoMaeConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    batch, width = sizes.batch or "batch", config.hidden_size
    return (
        TensorSpec(
            "features",
            "float32",
            (batch, config.positions, width),
            "features",
            "features of each patch, time first, without unit",
        ),
        TensorSpec(
            "pooled", "float32", (batch, width), "pooled", "mean of the features over all patches"
        ),
    )


def _example(config: VideoMaeConfig, sizes: ClipSizes) -> tuple[Tensor, ...]:
    shape = (sizes.batch or _TRACED_BATCH, config.num_frames, *config.image_size, 3)
    return (torch.zeros(*shape, dtype=torch.uint8),)


def _nominal(config: VideoMaeConfig) -> ClipSizes:
    return ClipSizes(1, config.num_frames, *config.image_size)


def _preprocessing(config: VideoMaeConfig) -> Preprocessing:
    return config.processor.rules(config.num_frames)


def spellings(key: str) -> tuple[str, ...]:
    """Names that a key may have in a file: until transformers 5, biases lay beside the layers."""
    for name in ("query", "value"):
        if key.endswith(f".attention.attention.{name}.bias"):
            return (key, key.replace(f"{name}.bias", f"{name[0]}_bias"))
    return (key,)


FAMILY = Family(
    name="videomae",
    config=VideoMaeConfig,
    build=empty_model,
    roles={
        "features": RoleExport(
            prefixes=("embeddings.", "encoder.", "layernorm."),
            wrap=ExportedFeatures,
            inputs=_inputs,
            outputs=_outputs,
            example=_example,
            nominal=_nominal,
            set_precision=set_precision,
            preprocessing=_preprocessing,
        ),
    },
    spellings=spellings,
    # Of pre-training and of classifiers.
    passed_over=("decoder.", "encoder_to_decoder.", "mask_token", "fc_norm.", "classifier."),
    read_folder=read_folder,
)
