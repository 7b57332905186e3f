"""PyTorch with a bundle's own weights: a reference that doesn't depend on the export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from magvit_export.catalog import CatalogEntry, find_model
from magvit_export.checkpoints.packaged import TRAINED, is_packaged, require_packaged
from magvit_export.checkpoints.shards import checkpoint_sha256
from magvit_export.checkpoints.weights import is_seeded
from magvit_export.families.family import ClipSizes, RoleExport, find_family, stored_config
from magvit_export.loading import LoadedModel, load_model
from magvit_runtime.agreement import Outputs
from magvit_runtime.bundle.manifest import Component, Kind, Role, WeightsRecord
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.errors import InputError
from magvit_runtime.types import Array
from magvit_runtime.verification.references import Reference


@dataclass(frozen=True)
class TorchRole:
    """A role of a bundle in PyTorch, in float32 on the CPU, for inference.

    Attributes:
        export: How its family exports it.
        module: What its graph computes: what the graph takes to what it gives, in that order.
        outputs: Kinds of what it gives.
    """

    export: RoleExport[Any]
    module: nn.Module
    outputs: tuple[Kind, ...]


def pytorch_reference(bundle: Bundle, role: TorchRole) -> Reference:
    """A bundle's role from `pytorch_role` as what others are compared with, in float64."""
    module = role.module.double()

    def run(items: Array) -> Outputs:
        with torch.inference_mode():
            results = module(torch.from_numpy(items))
        return {kind: r.numpy() for kind, r in zip(role.outputs, results, strict=True)}

    name = f"PyTorch float64, {weights_label(bundle)}"
    return Reference(name, run, {"torch": str(torch.__version__)})


def pytorch_role(bundle: Bundle, role: Role, weights: str | None = None) -> TorchRole:
    """A role of a bundle in PyTorch.

    Args:
        bundle: The bundle; its manifest has the architecture and the digest of the weights.
        role: What the graph does.
        weights: Path of the checkpoint, "hub", "trained", "seeded" or "seeded:N". None finds the
            weights of a bundle that was seeded or has weights that ship with this package.

    Raises:
        InputError: Weights are needed, or these aren't the bundle's; its family isn't installed, or
            has no such role.
        BundleError: The manifest's config isn't one of its family.
        CheckpointError: The checkpoint can't be read.
    """
    model = component_model(bundle, [role], weights)
    export = model.family.roles[role]
    outputs = tuple(spec.kind for spec in export.outputs(model.config, ClipSizes()))
    return TorchRole(export, export.wrap(model.module).eval(), outputs)


def component_model(bundle: Bundle, roles: Sequence[Role], weights: str | None) -> LoadedModel:
    """The model of a bundle that roles are of, with the weights that they need.

    Raises:
        InputError, BundleError, CheckpointError: As of `pytorch_role`.
    """
    source = check_source(bundle, roles[0], weights)
    component = component_of(bundle, roles[0])
    family = find_family(component.family)
    config = stored_config(bundle.path, component.config, family.config)
    entry = _entry(bundle, component)
    model = load_model(family, entry, config, roles, source, component.weights.variant)
    _check_weights(bundle, component.weights, model.weights)
    return model


def check_source(bundle: Bundle, role: Role, weights: str | None) -> str:
    """Where the weights of a bundle's role are.

    All but the hub's are compared with the bundle's here: that is cheaper than to load them.

    Raises:
        InputError: As of `pytorch_role`.
        CheckpointError: There is no such checkpoint.
    """
    recorded = component_of(bundle, role).weights
    if weights is None and is_packaged(bundle.manifest.model, recorded.sha256):
        return TRAINED
    if weights is None and recorded.source != "seeded":
        raise InputError(
            f"PyTorch needs the weights that {bundle.path} was made of",
            expected=f"{recorded.name}, sha256 {recorded.sha256}",
            mend=f"magvit verify {bundle.path} --against pytorch --weights PATH",
        )
    source = recorded.name if weights is None else weights
    if is_seeded(source):
        _check_weights(bundle, recorded, WeightsRecord("seeded", source))
    elif source != "hub":
        is_ours = source == TRAINED
        path = require_packaged(bundle.manifest.model) if is_ours else Path(source)
        sha256 = checkpoint_sha256(path)
        _check_weights(bundle, recorded, WeightsRecord("file", source, sha256=sha256))
    return source


def component_of(bundle: Bundle, role: Role) -> Component:
    """The model of a bundle that a role is of.

    Raises:
        InputError: Its family isn't installed, or none of its models has such a role.
    """
    for component in bundle.manifest.components.values():
        if role in find_family(component.family).roles:
            return component
    raise InputError(
        f"no model of {bundle.path} has the role {role!r}",
        found=", ".join(bundle.manifest.components),
    )


def _entry(bundle: Bundle, component: Component) -> CatalogEntry:
    """The catalog's entry of whose checkpoint a component's weights are."""
    entry = find_model(bundle.manifest.model)
    if component.weights.name.startswith(f"{entry.repo}/") or entry.first_stage is None:
        return entry
    return entry if component.family == entry.family else find_model(entry.first_stage)


def _check_weights(bundle: Bundle, recorded: WeightsRecord, found: WeightsRecord) -> None:
    if recorded.source == "seeded":
        same = (found.source, found.name) == ("seeded", recorded.name)
    else:
        same = found.sha256 == recorded.sha256
    if not same:
        raise InputError(
            f"these aren't the weights that {bundle.path} was made of",
            found=found.name if found.sha256 is None else f"{found.name}, sha256 {found.sha256}",
            expected=recorded.name
            if recorded.sha256 is None
            else f"{recorded.name}, sha256 {recorded.sha256}",
            mend="give those to --weights, or export a bundle from these",
        )
