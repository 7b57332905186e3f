"""Open-MAGVIT2's tokenizers as a `Family` of the exporter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from magvit_export.families.family import ClipSizes, Family, RoleExport, feature_specs
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.families.magvit.precision import set_precision
from magvit_export.families.magvit.tokenizer import (
    ExportedDecoder,
    ExportedEncoder,
    MagvitTokenizer,
    empty_tokenizer,
)
from magvit_export.layers.convs import CausalConv3d, SameConv2d
from magvit_export.layers.feature_maps import ExportedFeatures
from magvit_export.layers.group_norm import GroupNormSiLU
from magvit_export.layers.pixels import BYTES_FORMULA, FORMULA
from magvit_export.layers.residual_block import ResidualBlock
from magvit_runtime.bundle.manifest import Postprocessing, Preprocessing, TensorSpec, TokenSpec
from magvit_runtime.quantizers.specs import LfqSpec

FRAMES = 17  # The length of the clips that the released video weights were trained on.
# Traced sizes only stand for "any size". They differ so that none is confused with another.
_TRACED = {"batch": 2, "frames": 5, "height": 32, "width": 48}
_TRACED_GRID = {"batch": 2, "t": 3, "h": 4, "w": 5}


def _wrap_encoder(model: MagvitTokenizer) -> nn.Module:
    return ExportedEncoder(model.encoder)


def _wrap_decoder(model: MagvitTokenizer) -> nn.Module:
    return ExportedDecoder(model.decoder, model.config.z_channels)


def _sizes(config: TokenizerConfig, sizes: ClipSizes) -> dict[str, int | None]:
    names = ("batch", *(("frames",) if config.dims == 3 else ()), "height", "width")
    return {name: getattr(sizes, name) for name in names}


def _encoder_inputs(config: TokenizerConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    shape = tuple(size or name for name, size in _sizes(config, sizes).items())
    return (
        TensorSpec("frames", "uint8", (*shape, config.in_channels), "pixels", "RGB frames", 0, 255),
    )


def _encoder_outputs(config: TokenizerConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    chosen = _sizes(config, sizes)
    grid = _grid(config, chosen)
    batch = chosen["batch"] or "batch"
    return (
        _ids(config, (batch, *grid)),
        TensorSpec(
            "latents",
            "float32",
            (batch, config.z_channels, *grid),
            "latents",
            "latents before quantization, without unit",
        ),
    )


def _features_outputs(config: TokenizerConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    chosen = _sizes(config, sizes)
    channels = config.ch * config.ch_mult[-1]
    return feature_specs(chosen["batch"] or "batch", channels, _grid(config, chosen))


def _ids(config: TokenizerConfig, shape: tuple[int | str, ...]) -> TensorSpec:
    return TensorSpec("ids", "int32", shape, "ids", "token ids", 0, 2**config.z_channels - 1)


def _decoder_inputs(config: TokenizerConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    return (_ids(config, _decoder_grid(config, sizes)),)


def _decoder_outputs(config: TokenizerConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    batch, *grid = _decoder_grid(config, sizes)
    shape: list[int | str] = [batch]
    if config.dims == 3:
        stride, t = config.temporal_stride, grid.pop(0)
        shape.append(stride * (t - 1) + 1 if isinstance(t, int) else f"{stride}*({t}-1)+1")
    stride = config.spatial_stride
    shape += [stride * n if isinstance(n, int) else f"{stride}*{n}" for n in grid]
    return (TensorSpec("frames", "uint8", (*shape, 3), "pixels", "RGB frames", 0, 255),)


def _decoder_grid(config: TokenizerConfig, sizes: ClipSizes) -> tuple[int | str, ...]:
    """Batch and tokens of clips of these sizes."""
    chosen = _sizes(config, sizes)
    names = ("t", "h", "w")[-config.dims :]
    tokens = zip(_grid(config, chosen), names, strict=True)
    grid = (size if isinstance(size, int) else name for size, name in tokens)
    return (chosen["batch"] or "batch", *grid)


def _decoder_example(config: TokenizerConfig, sizes: ClipSizes) -> tuple[Tensor, ...]:
    grid = _decoder_grid(config, sizes)
    shape = [size if isinstance(size, int) else _TRACED_GRID[size] for size in grid]
    return (torch.zeros(*shape, dtype=torch.int32),)


def _grid(config: TokenizerConfig, chosen: Mapping[str, int | None]) -> tuple[int | str, ...]:
    strides = {"frames": config.temporal_stride}
    strides |= dict.fromkeys(("height", "width"), config.spatial_stride)
    return tuple(
        -(-size // strides[name]) if size else f"ceil({name}/{strides[name]})"
        for name, size in chosen.items()
        if name != "batch"
    )


def _example(config: TokenizerConfig, sizes: ClipSizes) -> tuple[Tensor, ...]:
    shape = [size or _TRACED[name] for name, size in _sizes(config, sizes).items()]
    return (torch.zeros(*shape, config.in_channels, dtype=torch.uint8),)


def _nominal(config: TokenizerConfig) -> ClipSizes:
    frames = FRAMES if config.dims == 3 else None
    return ClipSizes(1, frames, config.resolution, config.resolution)


def _set_precision(module: nn.Module, compute: torch.dtype, residual: torch.dtype) -> None:
    assert isinstance(module, ExportedEncoder | ExportedFeatures | ExportedDecoder)
    side = module.decoder if isinstance(module, ExportedDecoder) else module.encoder
    set_precision(side, compute, residual)


def _cuts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    kinds = (CausalConv3d, SameConv2d, GroupNormSiLU, ResidualBlock)
    for path, part in module.named_modules():
        if isinstance(part, kinds):
            yield path, part


def _preprocessing(config: TokenizerConfig) -> Preprocessing:
    return Preprocessing(
        layout="NTHWC" if config.dims == 3 else "NHWC",
        color="RGB",
        formula=FORMULA,
    )


def _postprocessing(config: TokenizerConfig) -> Postprocessing:
    return Postprocessing(
        layout="NTHWC" if config.dims == 3 else "NHWC",
        color="RGB",
        formula=BYTES_FORMULA,
    )


def _tokens(config: TokenizerConfig) -> TokenSpec:
    return TokenSpec(
        quantizer=LfqSpec(bits=config.z_channels, bit_order="lsb-first"),
        temporal_stride=config.temporal_stride,
        spatial_stride=config.spatial_stride,
    )


def spellings(key: str) -> tuple[str, ...]:
    """Names that a raw key may have in a file, the reference's own first.

    Some published notes write the decoder's last conv without its inner level.
    """
    if key.startswith("decoder.conv_out.conv_1."):
        return (key, key.replace("conv_1.", "conv."))
    return (key,)


FAMILY = Family(
    name="magvit",
    config=TokenizerConfig,
    build=empty_tokenizer,
    roles={
        "encode": RoleExport(
            prefixes=("encoder.",),
            wrap=_wrap_encoder,
            inputs=_encoder_inputs,
            outputs=_encoder_outputs,
            example=_example,
            nominal=_nominal,
            set_precision=_set_precision,
            cuts=_cuts,
            preprocessing=_preprocessing,
        ),
        "decode": RoleExport(
            prefixes=("decoder.",),
            wrap=_wrap_decoder,
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
            example=_example,
            nominal=_nominal,
            set_precision=_set_precision,
            preprocessing=_preprocessing,
            on_request=True,
            stored_with="encode",
        ),
    },
    tokens=_tokens,
    spellings=spellings,
)
