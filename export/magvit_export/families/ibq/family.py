"""IBQ's tokenizers as the exporter sees them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from magvit_export.families.family import ClipSizes, Family, RoleExport
from magvit_export.families.ibq.config import IbqConfig
from magvit_export.families.ibq.precision import set_precision
from magvit_export.families.ibq.tokenizer import ExportedEncoder, empty_tokenizer
from magvit_export.layers.pixels import FORMULA
from magvit_runtime.bundle.manifest import Preprocessing, TensorSpec, TokenSpec
from magvit_runtime.quantizers.specs import CodebookSpec

_TRACED = 2  # Items; and tokens of height, of width one more: no two sizes are equal.


def _image_size(sizes: ClipSizes) -> tuple[int | str, int | str, int | str]:
    return sizes.batch or "batch", sizes.height or "height", sizes.width or "width"


def _inputs(config: IbqConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    shape = (*_image_size(sizes), config.in_channels)
    return (TensorSpec("frames", "uint8", shape, "pixels", "RGB images", 0, 255),)


def _outputs(config: IbqConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    stride = config.spatial_stride
    batch, *image = _image_size(sizes)
    grid = tuple(
        size // stride if isinstance(size, int) else f"floor({size}/{stride})" for size in image
    )
    shape = (batch, *grid)
    return (
        TensorSpec("ids", "int32", shape, "ids", "rows of the codebook", 0, config.n_embed - 1),
        TensorSpec(
            "margins", "float32", shape, "margins", "best score minus second best, without unit", 0
        ),
        TensorSpec(
            "latents",
            "float32",
            (batch, config.embed_dim, *grid),
            "latents",
            "latents before quantization, without unit",
        ),
    )


def _example(config: IbqConfig, sizes: ClipSizes) -> tuple[Tensor, ...]:
    stride = config.spatial_stride
    traced = (_TRACED, 2 * stride, 3 * stride)
    chosen = (sizes.batch, sizes.height, sizes.width)
    shape = [size or usual for size, usual in zip(chosen, traced, strict=True)]
    return (torch.zeros(*shape, config.in_channels, dtype=torch.uint8),)


def _nominal(config: IbqConfig) -> ClipSizes:
    return ClipSizes(1, None, config.resolution, config.resolution)


def _set_precision(module: nn.Module, compute: torch.dtype, residual: torch.dtype) -> None:
    assert isinstance(module, ExportedEncoder)
    set_precision(module, compute, residual)


def _preprocessing(_: IbqConfig) -> Preprocessing:
    return Preprocessing(layout="NHWC", color="RGB", formula=FORMULA)


def _tokens(config: IbqConfig) -> TokenSpec:
    return TokenSpec(
        quantizer=CodebookSpec(config.n_embed),
        temporal_stride=1,
        spatial_stride=config.spatial_stride,
    )


FAMILY = Family(
    name="ibq",
    config=IbqConfig,
    build=empty_tokenizer,
    roles={
        "encode": RoleExport(
            prefixes=("encoder.", "quant_conv.", "quantize."),
            wrap=ExportedEncoder,
            inputs=_inputs,
            outputs=_outputs,
            example=_example,
            nominal=_nominal,
            set_precision=_set_precision,
            preprocessing=_preprocessing,
        )
    },
    tokens=_tokens,
)
