"""The shape of one CLIP image encoder, and what is done to its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from magvit_export.families.processor import Processor, read_processor
from magvit_export.families.transformers_files import (
    CONFIG_NAME,
    as_config,
    read_config_file,
    square,
)
from magvit_runtime.bundle.pixel_rules import Resizing
from magvit_runtime.errors import InputError

Positive = Annotated[int, msgspec.Meta(ge=1)]
PROCESSOR = "CLIPImageProcessorPil"


class ClipConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Architecture of an image encoder; the names and defaults are those of transformers' config.

    Attributes:
        image_size, patch_size: Height and width of an image, and of a patch.
        hidden_size: Width of the transformer.
        projection_dim: Width of the features.
        processor: What is done to pixels.
    """

    image_size: Positive = 224
    patch_size: Positive = 32
    num_channels: Literal[3] = 3
    hidden_size: Positive = 768
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 12
    intermediate_size: Positive = 3072
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: Positive = 512
    processor: Processor = Processor(
        resizing=Resizing("bicubic", shorter_edge=224),
        crop=(224, 224),
        scale=1 / 255,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        source=f"defaults of transformers' {PROCESSOR}",
    )


def read_folder(path: Path) -> ClipConfig | None:
    """The configuration beside weights, of CLIP whole or of its image encoder; None for none.

    Raises:
        InputError: It is another model's, or has what isn't exported here.
        MissingPackageError: transformers or Pillow isn't installed.
    """
    content = read_config_file(path, ("clip", "clip_vision_model"))
    if content is None:
        return None
    folder = path if path.is_dir() else path.parent
    file = folder / CONFIG_NAME
    if content["model_type"] == "clip":
        whole = as_config("CLIPConfig", content, file)
        vision, projection = whole.vision_config, whole.projection_dim
    else:
        vision = as_config("CLIPVisionConfig", content, file)
        projection = vision.projection_dim
    own = {*ClipConfig.__struct_fields__} - {"processor", "projection_dim"}
    values = {name: getattr(vision, name) for name in own} | {"projection_dim": projection}
    processor = msgspec.to_builtins(read_processor(folder, PROCESSOR, square(vision.image_size)))
    try:
        return msgspec.convert(values | {"processor": processor}, ClipConfig)
    except msgspec.ValidationError as error:
        raise InputError(f"{file} can't be exported", found=str(error)) from error
