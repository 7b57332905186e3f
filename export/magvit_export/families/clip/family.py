"""CLIP's image encoders as a `Family` of the exporter."""

from __future__ import annotations

import torch
from torch import Tensor

from magvit_export.families.clip.config import ClipConfig, read_folder
from magvit_export.families.clip.model import ExportedFeatures, empty_model, set_precision
from magvit_export.families.family import ClipSizes, Family, RoleExport, refuse_other_sizes
from magvit_runtime.bundle.manifest import Preprocessing, TensorSpec

_TRACED_BATCH = 2  # 1 would be taken for a constant.


def _inputs(config: ClipConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    refuse_other_sizes(sizes, _nominal(config))
    shape = (sizes.batch or "batch", config.image_size, config.image_size, 3)
    return (TensorSpec("frames", "uint8", shape, "pixels", "RGB images", 0, 255),)


def _outputs(config: ClipConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    shape = (sizes.batch or "batch", config.projection_dim)
    return (
        TensorSpec(
            "features",
            "float32",
            shape,
            "features",
            "features of each image, not normalised to length 1",
        ),
    )


def _example(config: ClipConfig, sizes: ClipSizes) -> tuple[Tensor, ...]:
    shape = (sizes.batch or _TRACED_BATCH, config.image_size, config.image_size, 3)
    return (torch.zeros(*shape, dtype=torch.uint8),)


def _nominal(config: ClipConfig) -> ClipSizes:
    return ClipSizes(1, None, config.image_size, config.image_size)


def _preprocessing(config: ClipConfig) -> Preprocessing:
    return config.processor.rules()


FAMILY = Family(
    name="clip",
    config=ClipConfig,
    build=empty_model,
    roles={
        "features": RoleExport(
            prefixes=("vision_model.", "visual_projection."),
            wrap=ExportedFeatures,
            inputs=_inputs,
            outputs=_outputs,
            example=_example,
            nominal=_nominal,
            set_precision=set_precision,
            preprocessing=_preprocessing,
        ),
    },
    # The encoder of texts, and buffers that older files hold.
    passed_over=(
        "text_model.",
        "text_projection.",
        "logit_scale",
        "vision_model.embeddings.position_ids",
    ),
    read_folder=read_folder,
)
