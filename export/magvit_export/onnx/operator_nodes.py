"""Our custom operators as nodes of the exported graph.

During `torch.onnx.export` the modules call these in place of their eager arithmetic. Each returns a
placeholder that becomes one node in the domain `magvit`; `magvit_export.onnx.functions` defines
what the node computes, so that every runtime can run it, and a TensorRT plugin of the same name
computes the same faster. `plugin_namespace` and `plugin_version` are what lets TensorRT's parser
prefer the plugin to the definition.
"""

from __future__ import annotations

import torch
from torch import Tensor

from magvit_runtime.native_libraries.lookup import PLUGIN_INTERFACE

DOMAIN = "magvit"
OPSET_VERSION = 1
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
