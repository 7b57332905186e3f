"""The shape of one VideoMAE encoder, and what is done to its pixels."""

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
PROCESSOR = "VideoMAEImageProcessorPil"


class VideoMaeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Architecture of an encoder; the names and defaults are those of transformers' config.

    Attributes:
        image_size, patch_size: Height and width of a frame, and of a patch.
        num_frames, tubelet_size: Frames of a clip, and of a patch.
        hidden_size: Width of the features.
        use_mean_pooling: Of fine-tuned checkpoints: there is no LayerNorm after the last layer.
            False here, as in the published file; transformers' default is true.
        processor: What is done to pixels.
    """

    image_size: tuple[Positive, Positive] = (224, 224)
    patch_size: tuple[Positive, Positive] = (16, 16)
    num_channels: Literal[3] = 3
    num_frames: Positive = 16
    tubelet_size: Positive = 2
    hidden_size: Positive = 768
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 12
    intermediate_size: Positive = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    qv_bias: bool = True
    use_mean_pooling: bool = False
    processor: Processor = Processor(
        resizing=Resizing("bilinear", shorter_edge=224),
        crop=(224, 224),
        scale=1 / 255,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        source=f"defaults of transformers' {PROCESSOR}",
    )

    @property
    def positions(self) -> int:
        """Patches of a clip: how many features it has."""
        (height, width), (high, wide) = self.image_size, self.patch_size
        return (self.num_frames // self.tubelet_size) * (height // high) * (width // wide)


def read_folder(path: Path) -> VideoMaeConfig | None:
    """The configuration beside weights; None where there is none.

    Raises:
        InputError: It is another model's, or has what isn't exported here.
        MissingPackageError: transformers or Pillow isn't installed.
    """
    content = read_config_file(path, ("videomae",))
    if content is None:
        return None
    folder = path if path.is_dir() else path.parent
    found = as_config("VideoMAEConfig", content, folder / CONFIG_NAME)
    own = {*VideoMaeConfig.__struct_fields__} - {"processor", "image_size", "patch_size"}
    values = {name: getattr(found, name) for name in own}
    sizes = {name: square(getattr(found, name)) for name in ("image_size", "patch_size")}
    processor = msgspec.to_builtins(read_processor(folder, PROCESSOR, sizes["image_size"]))
    try:
        return msgspec.convert(values | sizes | {"processor": processor}, VideoMaeConfig)
    except msgspec.ValidationError as error:
        raise InputError(f"{folder / CONFIG_NAME} can't be exported", found=str(error)) from error
