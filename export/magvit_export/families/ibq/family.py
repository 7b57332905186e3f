"""IBQ's tokenizers as the exporter sees them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from magvit_export.families.family import ClipSizes, Family, RoleExport, feature_specs
from magvit_export.families.ibq.config import IbqConfig
from magvit_export.families.ibq.precision import set_precision
from magvit_export.families.ibq.tokenizer import (
    ExportedDecoder,
    ExportedEncoder,
    empty_tokenizer,
)
from magvit_export.layers.feature_maps import ExportedFeatures
from magvit_export.layers.pixels import BYTES_FORMULA, FORMULA
from magvit_runtime.bundle.manifest import Postprocessing, Preprocessing, TensorSpec, TokenSpec
from magvit_runtime.quantizers.specs import CodebookSpec

# Traced sizes only stand in for "any size"; they differ so that none is taken for another.
_TRACED_GRID = (2, 3, 4)


def _image_size(sizes: ClipSizes) -> tuple[int | str, int | str, int | str]:
    return sizes.batch or "batch", sizes.height or "height", sizes.width or "width"


def _pixels(shape: tuple[int | str, ...]) -> TensorSpec:
    return TensorSpec("frames", "uint8", (*shape, 3), "pixels", "RGB images", 0, 255)


def _ids(config: IbqConfig, shape: tuple[int | str, ...]) -> TensorSpec:
    return TensorSpec("ids", "int32", shape, "ids", "rows of the codebook", 0, config.n_embed - 1)


def _encoder_inputs(_: IbqConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    return (_pixels(_image_size(sizes)),)


def _grid(config: IbqConfig, sizes: ClipSizes) -> tuple[int | str, ...]:
    """Tokens of images of these sizes."""
    stride = config.spatial_stride
    _, *image = _image_size(sizes)
    return tuple(
        size // stride if isinstance(size, int) else f"floor({size}/{stride})" for size in image
    )


def _features_outputs(config: IbqConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    channels = config.ch * config.ch_mult[-1]
    return feature_specs(sizes.batch or "batch", channels, _grid(config, sizes))


def _encoder_outputs(config: IbqConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    batch, grid = sizes.batch or "batch", _grid(config, sizes)
    shape = (batch, *grid)
    return (
        _ids(config, shape),
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


def _decoder_grid(config: IbqConfig, sizes: ClipSizes) -> tuple[int | str, ...]:
    """Batch and tokens of images of these sizes."""
    stride = config.spatial_stride
    tokens = {"h": sizes.height, "w": sizes.width}
    return (
        sizes.batch or "batch",
        *(size // stride if size else name for name, size in tokens.items()),
    )


def _decoder_inputs(config: IbqConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    return (_ids(config, _decoder_grid(config, sizes)),)


def _decoder_outputs(config: IbqConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    stride = config.spatial_stride
    batch, *grid = _decoder_grid(config, sizes)
    image = (stride * n if isinstance(n, int) else f"{stride}*{n}" for n in grid)
    return (_pixels((batch, *image)),)


def _decoder_example(config: IbqConfig, sizes: ClipSizes) -> tuple[Tensor, ...]:
    grid = zip(_decoder_grid(config, sizes), _TRACED_GRID, strict=True)
    shape = [size if isinstance(size, int) else usual for size, usual in grid]
    return (torch.zeros(*shape, dtype=torch.int32),)


def _encoder_example(config: IbqConfig, sizes: ClipSizes) -> tuple[Tensor, ...]:
    stride = config.spatial_stride
    items, *grid = _TRACED_GRID
    traced = (items, *(stride * tokens for tokens in grid))
    chosen = (sizes.batch, sizes.height, sizes.width)
    shape = [size or usual for size, usual in zip(chosen, traced, strict=True)]
    return (torch.zeros(*shape, config.in_channels, dtype=torch.uint8),)


def _nominal(config: IbqConfig) -> ClipSizes:
    return ClipSizes(1, None, config.resolution, config.resolution)


def _set_precision(module: nn.Module, compute: torch.dtype, residual: torch.dtype) -> None:
    assert isinstance(module, ExportedEncoder | ExportedFeatures | ExportedDecoder)
    side = module.decoder if isinstance(module, ExportedDecoder) else module.encoder
    set_precision(side, compute, residual)


def _preprocessing(_: IbqConfig) -> Preprocessing:
    return Preprocessing(layout="NHWC", color="RGB", formula=FORMULA)


def _postprocessing(_: IbqConfig) -> Postprocessing:
    return Postprocessing(layout="NHWC", color="RGB", formula=BYTES_FORMULA)


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
            inputs=_encoder_inputs,
            outputs=_encoder_outputs,
            example=_encoder_example,
            nominal=_nominal,
            set_precision=_set_precision,
            preprocessing=_preprocessing,
        ),
        "decode": RoleExport(
            prefixes=("decoder.", "post_quant_conv.", "quantize."),
            wrap=ExportedDecoder,
            inputs=_decoder_inputs,
            outputs=_decoder_outputs,
            example=_decoder_example,
            nominal=_nominal,
            set_precision=_set_precision,
            postprocessing=_postprocessing,
        ),
        "features": RoleExport(
            prefixes=("encoder.",),
            wrap=ExportedFeatures,
            inputs=_encoder_inputs,
            outputs=_features_outputs,
            example=_encoder_example,
            nominal=_nominal,
            set_precision=_set_precision,
            preprocessing=_preprocessing,
            on_request=True,
            stored_with="encode",
        ),
    },
    tokens=_tokens,
    shared={"quantize.embedding.weight": "codebook.data"},
)
