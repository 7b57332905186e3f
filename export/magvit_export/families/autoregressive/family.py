"""Open-MAGVIT2's autoregressive models as a `Family` of the exporter."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from magvit_export.families.autoregressive.config import TRAINING_FIELDS, AutoregressiveConfig
from magvit_export.families.autoregressive.graphs import ExportedContext, ExportedSubtokens
from magvit_export.families.autoregressive.precision import quantize_weights, set_precision
from magvit_export.families.autoregressive.transformer import AutoregressiveModel, empty_model
from magvit_export.families.family import ClipSizes, Family, RoleExport
from magvit_runtime.bundle.manifest import GenerationSpec, TensorSpec, TokenSpec
from magvit_runtime.quantizers.specs import LfqSpec
from magvit_runtime.sampling import Sampling

SPATIAL_STRIDE = 16  # Of the tokenizer whose ids the released models learned from.
CONTEXT_PARTS = ("pre_emb", "post_emb", "class_emb", "spatial_blocks")
SUBTOKENS_PARTS = ("pre_emb", "factorized_blocks", "norm", "head")
# Traced sizes only stand for "any size". They differ so that none is confused with another.
_TRACED_BATCH, _TRACED_POSITIONS, _TRACED_ROWS = 2, 3, 5


def _context_inputs(config: AutoregressiveConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    batch, positions = sizes.batch or "batch", sizes.tokens or "positions"
    # A graph made for a number of positions has room for a whole image before them.
    rows = config.block_size if sizes.tokens else "rows"
    return _context_tensors(config, batch, positions, rows)


def _context_tensors(
    config: AutoregressiveConfig, batch: int | str, positions: int | str, rows: int | str
) -> tuple[TensorSpec, ...]:
    largest = 2 ** sum(config.factorized_bits) - 1
    null = config.class_num
    return (
        TensorSpec("classes", "int32", (batch,), "classes", f"classes; {null} is none", 0, null),
        TensorSpec("ids", "int32", (batch, positions), "ids", "tokens before", 0, largest),
        TensorSpec("position", "int32", (1,), "state", "the first position's number", 0),
        *(
            TensorSpec(name, "float32", _cache_shape(config, batch, rows), "state", "cache")
            for name in _cache_names(config)
        ),
    )


def _context_outputs(config: AutoregressiveConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    batch, positions = sizes.batch or "batch", sizes.tokens or "positions"
    shape = _cache_shape(config, batch, positions)
    return (
        TensorSpec(
            "hidden", "float32", (batch, positions, config.dim), "features", "hidden states"
        ),
        *(
            TensorSpec(f"new_{name}", "float32", shape, "state", "the cache's new rows")
            for name in _cache_names(config)
        ),
    )


def _cache_names(config: AutoregressiveConfig) -> list[str]:
    blocks = range(config.spatial_n_layer)
    return [f"{kind}.{block}" for block in blocks for kind in ("keys", "values")]


def _cache_shape(
    config: AutoregressiveConfig, batch: int | str, rows: int | str
) -> tuple[int | str, ...]:
    return (batch, config.n_head, rows, config.head_dim)


def _context_example(config: AutoregressiveConfig, sizes: ClipSizes) -> tuple[Tensor, ...]:
    traced = {"batch": _TRACED_BATCH, "positions": _TRACED_POSITIONS, "rows": _TRACED_ROWS}
    return tuple(_zeros(spec, traced) for spec in _context_inputs(config, sizes))


def _subtokens_inputs(config: AutoregressiveConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    batch, largest = sizes.batch or "batch", config.vocabularies[0] - 1
    return (
        TensorSpec("hidden", "float32", (batch, config.dim), "features", "hidden states"),
        TensorSpec("pre", "int32", (batch,), "ids", "first parts of the ids", 0, largest),
    )


def _subtokens_outputs(config: AutoregressiveConfig, sizes: ClipSizes) -> tuple[TensorSpec, ...]:
    batch, (pre, post) = sizes.batch or "batch", config.vocabularies
    return (
        TensorSpec("logits_pre", "float32", (batch, pre), "logits", "of the ids' first parts"),
        TensorSpec("logits_post", "float32", (batch, post), "logits", "of their second parts"),
    )


def _subtokens_example(config: AutoregressiveConfig, sizes: ClipSizes) -> tuple[Tensor, ...]:
    traced = {"batch": _TRACED_BATCH}
    return tuple(_zeros(spec, traced) for spec in _subtokens_inputs(config, sizes))


def _zeros(spec: TensorSpec, traced: Mapping[str, int]) -> Tensor:
    sizes = [traced[size] if isinstance(size, str) else size for size in spec.shape]
    return torch.zeros(sizes, dtype=getattr(torch, spec.dtype))


def _nominal(_: AutoregressiveConfig) -> ClipSizes:
    return ClipSizes(batch=1, tokens=1)


def _wrap_context(model: AutoregressiveModel) -> nn.Module:
    return ExportedContext(model.transformer.part(*CONTEXT_PARTS))


def _wrap_subtokens(model: AutoregressiveModel) -> nn.Module:
    return ExportedSubtokens(model.transformer.part(*SUBTOKENS_PARTS))


def _set_precision(module: nn.Module, compute: torch.dtype, residual: torch.dtype) -> None:
    assert isinstance(module, ExportedContext | ExportedSubtokens)
    set_precision(module.transformer, compute, residual)


def _quantize(module: nn.Module) -> None:
    assert isinstance(module, ExportedContext | ExportedSubtokens)
    quantize_weights(module.transformer)


def _tokens(config: AutoregressiveConfig) -> TokenSpec:
    return TokenSpec(
        quantizer=LfqSpec(bits=sum(config.factorized_bits), bit_order="lsb-first"),
        temporal_stride=1,
        spatial_stride=SPATIAL_STRIDE,
    )


def _generation(config: AutoregressiveConfig, sampling: Sampling) -> GenerationSpec:
    return GenerationSpec(
        classes=config.class_num,
        grid=(config.side, config.side),
        pre_bits=config.factorized_bits[0],
        sampling=sampling,
    )


FAMILY = Family(
    name="autoregressive",
    config=AutoregressiveConfig,
    build=empty_model,
    roles={
        "context": RoleExport(
            prefixes=tuple(f"transformer.{part}." for part in CONTEXT_PARTS),
            wrap=_wrap_context,
            inputs=_context_inputs,
            outputs=_context_outputs,
            example=_context_example,
            nominal=_nominal,
            set_precision=_set_precision,
            quantize=_quantize,
        ),
        "subtokens": RoleExport(
            prefixes=tuple(f"transformer.{part}." for part in SUBTOKENS_PARTS),
            wrap=_wrap_subtokens,
            inputs=_subtokens_inputs,
            outputs=_subtokens_outputs,
            example=_subtokens_example,
            nominal=_nominal,
            set_precision=_set_precision,
            quantize=_quantize,
        ),
    },
    tokens=_tokens,
    generation=_generation,
    section="transformer_config",
    training_fields=TRAINING_FIELDS,
    passed_over=("first_stage_model.", "cond_stage_model.", "permuter."),
)
