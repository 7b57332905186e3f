"""Our custom operators as nodes of the exported graph.

During `torch.onnx.export` the modules call these in place of their eager arithmetic. Each returns a
placeholder that becomes one node in the domain `magvit`; `magvit_export.onnx.functions` defines
what the node computes, so that every runtime can run it. For those of `PLUGINS` a TensorRT plugin
of the same name computes the same faster; `plugin_namespace` and `plugin_version` are what lets
TensorRT's parser prefer the plugin to the definition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from magvit_runtime.native_libraries.lookup import PLUGIN_INTERFACE

DOMAIN = "magvit"
OPSET_VERSION = 1
# Rows of a codebook that are scored at once: twice as many take over 64 MB for eight images.
LARGEST_TILE = 2048
PLUGIN_ATTRIBUTES = {"plugin_namespace": DOMAIN, "plugin_version": str(PLUGIN_INTERFACE)}


def lfq_node(latents: Tensor) -> Tensor:
    """`magvit::LFQ`: latents [N, C, ...] -> int32 ids [N, ...]."""
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::LFQ",
        (latents,),
        dict(PLUGIN_ATTRIBUTES),
        dtype=torch.int32,
        shape=(latents.shape[0], *latents.shape[2:]),
        version=OPSET_VERSION,
    )


def group_norm_node(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, epsilon: float, *, name: str
) -> Tensor:
    """`magvit::GroupNorm` or, by `name`, `magvit::GroupNormSiLU`: x [N, C, ...] -> the same."""
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{name}",
        (x, weight, bias),
        {"num_groups": num_groups, "epsilon": epsilon, **PLUGIN_ATTRIBUTES},
        dtype=x.dtype,
        shape=tuple(x.shape),
        version=OPSET_VERSION,
    )


def codes_node(ids: Tensor, bits: int) -> Tensor:
    """`magvit::LFQCodes`: int32 ids [N, ...] -> float32 codes [N, bits, ...], each -1 or +1."""
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::LFQCodes",
        (ids,),
        {"bits": bits},
        dtype=torch.float32,
        shape=(ids.shape[0], bits, *ids.shape[1:]),
        version=OPSET_VERSION,
    )


def spatial_attention_node(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`magvit::SpatialAttention`: q, k, v [N, C, H, W] -> the same."""
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::SpatialAttention",
        (q, k, v),
        {},
        dtype=v.dtype,
        shape=tuple(v.shape),
        version=OPSET_VERSION,
    )


def code_statistics_node(codes: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """`magvit::CodeStatistics`: codes [N, C, ...] -> spread [N, C] and mean [N, C]."""
    spread, mean = torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::CodeStatistics",
        (codes,),
        {"epsilon": epsilon},
        dtypes=(codes.dtype,) * 2,
        shapes=(tuple(codes.shape[:2]),) * 2,
        version=OPSET_VERSION,
    )
    return spread, mean


def causal_depth_to_space_node(x: Tensor, block: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """`magvit::CausalDepthToSpace`: x [N, prod(block)·C, t, h, w] -> [N, C, *sizes]."""
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::CausalDepthToSpace",
        (x,),
        {"block": list(block)},
        dtype=x.dtype,
        shape=(x.shape[0], x.shape[1] // math.prod(block), *sizes),
        version=OPSET_VERSION,
    )


def depth_to_space_node(x: Tensor, block: int) -> Tensor:
    """ONNX's own `DepthToSpace`, channels laid out (row, column, C)."""
    batch, channels, height, width = x.shape
    return torch.onnx.ops.symbolic(
        "DepthToSpace",
        (x,),
        {"blocksize": block, "mode": "DCR"},
        dtype=x.dtype,
        shape=(batch, channels // block**2, height * block, width * block),
        version=13,
    )


def integer_quotient_node(x: Tensor, divisor: int) -> Tensor:
    """ONNX's own `Div` of integers; the exporter would divide floats, which hold 24 bits."""
    by = torch.tensor(divisor, dtype=x.dtype)
    return torch.onnx.ops.symbolic("Div", (x, by), {}, dtype=x.dtype, shape=x.shape, version=14)


def codebook_argmax_node(latents: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """`magvit::CodebookArgmax`: latents [N, C, ...] -> int32 ids and float32 margins [N, ...]."""
    shape = (latents.shape[0], *latents.shape[2:])
    ids, margins = torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::CodebookArgmax",
        (latents, codebook),
        {"tile": codebook_tile(codebook.shape[0]), **PLUGIN_ATTRIBUTES},
        dtypes=(torch.int32, torch.float32),
        shapes=(shape, shape),
        version=OPSET_VERSION,
    )
    return ids, margins


def codebook_tile(rows: int) -> int:
    """Rows of a codebook that are scored at once: its largest divisor up to `LARGEST_TILE`."""
    return next(size for size in range(min(rows, LARGEST_TILE), 0, -1) if rows % size == 0)
