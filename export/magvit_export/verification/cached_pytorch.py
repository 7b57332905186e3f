"""PyTorch as `magvit verify` uses it: as precise as it can wait for, and only once."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import nn

from magvit_export.families.family import find_family
from magvit_export.verification.pytorch_reference import (
    TorchRole,
    check_source,
    component_of,
    pytorch_role,
)
from magvit_export.verification.reference_cache import (
    ReferenceCache,
    ReferenceType,
    cache_folder,
    source_digest,
)
from magvit_runtime.agreement import Outputs
from magvit_runtime.bundle.manifest import GraphRecord, Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.types import Array
from magvit_runtime.verification.references import Reference
from magvit_runtime.verification.times import item_flop, pytorch_seconds

_Type = Literal["float32", "float64"]

# Operations of an item up to which float64 takes less than half a minute on two cores. Float32's
# own error, 1.6e-6 of the latents' spread, is far below every limit (docs/parity.md).
FLOAT64_FLOP = 0.5e12


def cached_reference(
    bundle: Bundle, role: Role, weights: str | None = None, dtype: ReferenceType = "auto"
) -> Reference:
    """A bundle's role in PyTorch, loaded once something is asked that isn't in the cache.

    Args:
        bundle: The bundle.
        role: What the graph does.
        weights: As of `pytorch_role`.
        dtype: "float64"; "float32", whose GroupNorm is accurate; or "auto": float32 for items of
            more than `FLOAT64_FLOP` operations, unless there is a GPU; float64 for all others.

    Raises:
        InputError, BundleError, CheckpointError: As of `pytorch_role`.
    """
    source = check_source(bundle, role, weights)
    model = _PyTorch(bundle, role, source, dtype)
    if source == "hub":
        model.load()  # Only that says whether the hub still has the bundle's weights.
    name = f"PyTorch {model.rule}{_place()}, {weights_label(bundle)}"
    return Reference(name, model.run, _versions(), seconds=model.seconds, note=model.note)


@dataclass
class _PyTorch:
    """A role in PyTorch, and the outputs that are known."""

    bundle: Bundle
    role: Role
    source: str
    dtype: ReferenceType
    caches: dict[_Type, ReferenceCache] = field(init=False)
    reused: int = 0
    computed: int = 0
    _graph: GraphRecord = field(init=False)
    _loaded: TorchRole | None = None
    _modules: dict[_Type, nn.Module] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._graph = self.bundle.graph(self.role)[1]
        component = component_of(self.bundle, self.role)
        weights = component.weights
        identity = {
            "weights": [weights.variant, weights.sha256 or weights.name],
            "family": component.family,
            "config": component.config,
            "role": self.role,
            "place": _place(),
            "code": source_digest(__name__, find_family(component.family).config.__module__),
            **_versions(),
        }
        self.caches = {
            dtype: ReferenceCache(cache_folder(), {**identity, "dtype": dtype})
            for dtype in ("float32", "float64")
        }

    @property
    def rule(self) -> str:
        """Which type computes what."""
        if self.dtype != "auto":
            return self.dtype
        if not self._has_large_items:
            return "float64"
        return f"float32, float64 up to {FLOAT64_FLOP / 1e12:g} TFLOP an item"

    def load(self) -> TorchRole:
        """The model in float32, on the CPU."""
        self._loaded = self._loaded or pytorch_role(self.bundle, self.role, self.source)
        return self._loaded

    def run(self, items: Array) -> Outputs:
        """Outputs of items by kind."""
        parts = [self._run_one(items[i : i + 1]) for i in range(len(items))]
        return {kind: np.concatenate([part[kind] for part in parts]) for kind in parts[0]}

    def seconds(self, items: Array) -> float:
        """How long the items may take that aren't known."""
        if _device() == "cuda":
            return 0.0
        dtype = self._type_for(items)
        new = sum(not self.caches[dtype].knows(items[i : i + 1]) for i in range(len(items)))
        return new * pytorch_seconds(dtype, item_flop(self._graph, items.shape[1:]))

    def note(self) -> str:
        """How much came from the cache."""
        if not self.reused:
            return ""
        folder = self.caches["float64"].folder
        return f"{self.reused} of {self.reused + self.computed} outputs are kept in {folder}"

    @property
    def _has_large_items(self) -> bool:
        work = self._graph.work
        return work is not None and work.flop > FLOAT64_FLOP and _device() == "cpu"

    def _type_for(self, items: Array) -> _Type:
        if self.dtype != "auto":
            return self.dtype
        flop = item_flop(self._graph, items.shape[1:]) or 0.0
        return "float32" if self._has_large_items and flop > FLOAT64_FLOP else "float64"

    def _run_one(self, item: Array) -> Outputs:
        dtype = self._type_for(item)
        known = self.caches[dtype].get(item)
        if known is not None:
            self.reused += 1
            return known
        self.computed += 1
        role = self.load()
        with torch.inference_mode():
            results = self._module(role, dtype)(torch.from_numpy(item).to(_device()))
        pairs = zip(role.outputs, results, strict=True)
        outputs: Outputs = {kind: result.cpu().numpy() for kind, result in pairs}
        self.caches[dtype].put(item, outputs)
        return outputs

    def _module(self, role: TorchRole, dtype: _Type) -> nn.Module:
        if dtype not in self._modules:
            # Of the float32 one no second copy is needed: nothing changes it.
            module = role.module if dtype == "float32" else copy.deepcopy(role.module)
            self._modules[dtype] = module.to(_device(), getattr(torch, dtype))
        return self._modules[dtype]


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _place() -> str:
    return f" on {torch.cuda.get_device_name()}" if _device() == "cuda" else ""


def _versions() -> dict[str, str]:
    return {"torch": str(torch.__version__)}
