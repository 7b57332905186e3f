"""A model family as in another package: one conv, and a codebook of four rows."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn

from magvit_export.catalog import CatalogEntry
from magvit_export.families.family import ClipSizes, Family, RoleExport
from magvit_runtime.bundle.manifest import Preprocessing, TensorSpec, TokenSpec
from magvit_runtime.quantizers.specs import CodebookSpec

STRIDE = 4
TRACED = {"batch": 2, "height": 24, "width": 32}


class ToyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    channels: int = 8
    rows: int = 4


class Toy(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, config.channels, STRIDE, stride=STRIDE)
        self.codebook = nn.Parameter(torch.empty(config.rows, config.channels))


class ToyEncoder(nn.Module):
    """uint8 [N, H, W, 3] -> the best row's number, int32 [N, h, w], and its margin."""

    def __init__(self, toy: Toy) -> None:
        super().__init__()
        self.toy = toy

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        conv, codebook = self.toy.conv, self.toy.codebook
        pixels = (images.to(codebook.dtype) / 127.5 - 1).movedim(-1, 1)
        z = conv(pixels.to(conv.weight.dtype)).to(codebook.dtype)
        scores = z.movedim(1, -1) @ codebook.T
        best = scores.topk(2, dim=-1)
        margins = best.values[..., 0] - best.values[..., 1]
        return best.indices[..., 0].to(torch.int32), margins


def build(config: ToyConfig) -> Toy:
    with torch.device("meta"):
        return Toy(config)


def inputs(_: ToyConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    shape = (sizes.batch or "batch", sizes.height or "height", sizes.width or "width", 3)
    return (TensorSpec("images", "uint8", shape, "pixels", "RGB images", 0, 255),)


def outputs(config: ToyConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    height = sizes.height // STRIDE if sizes.height else f"floor(height/{STRIDE})"
    width = sizes.width // STRIDE if sizes.width else f"floor(width/{STRIDE})"
    shape = (sizes.batch or "batch", height, width)
    return (
        TensorSpec("codes", "int32", shape, "ids", "rows of the codebook", 0, config.rows - 1),
        TensorSpec("margins", "float32", shape, "margins", "best score minus second best", 0),
    )


def example(_: ToyConfig, sizes: ClipSizes) -> tuple[Tensor, ...]:
    shape = [getattr(sizes, name) or traced for name, traced in TRACED.items()]
    return (torch.zeros(*shape, 3, dtype=torch.uint8),)


def nominal(_: ToyConfig) -> ClipSizes:
    return ClipSizes(batch=1, height=128, width=128)


def set_precision(module: nn.Module, compute: torch.dtype, _: torch.dtype) -> None:
    module.get_submodule("toy.conv").to(compute)


def tokens(config: ToyConfig) -> TokenSpec:
    return TokenSpec(CodebookSpec(config.rows), temporal_stride=1, spatial_stride=STRIDE)


def preprocessing(_: ToyConfig) -> Preprocessing:
    return Preprocessing("NHWC", "RGB", "x / 127.5 - 1")


FAMILY = Family(
    name="toy",
    config=ToyConfig,
    build=build,
    roles={
        "encode": RoleExport(
            prefixes=("conv.", "codebook"),
            wrap=ToyEncoder,
            inputs=inputs,
            outputs=outputs,
            example=example,
            nominal=nominal,
            set_precision=set_precision,
            preprocessing=preprocessing,
        )
    },
    tokens=tokens,
)

MODELS = (CatalogEntry("toy-4", "toy", "images, 4 codes", ToyConfig()),)
