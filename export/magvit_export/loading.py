"""Models of the families with weights in them, as exports and references take them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from magvit_export.catalog import CatalogEntry
from magvit_export.checkpoints.hub import fetch_checkpoint
from magvit_export.checkpoints.reading import Variant
from magvit_export.checkpoints.weights import find_weights, is_seeded
from magvit_export.families.family import Family, RoleExport
from magvit_runtime.bundle.manifest import Component, Precision, Role, WeightsRecord
from magvit_runtime.errors import InputError

logger = logging.getLogger(__name__)

COMPUTE_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


@dataclass(frozen=True)
class LoadedModel:
    """A model of a family, with its weights in it.

    Attributes:
        family: What it is one of.
        config: Its architecture.
        module: The model; parameters that no chosen role needs are on the device "meta".
        weights: Where its weights came from.
    """

    family: Family[Any]
    config: msgspec.Struct
    module: nn.Module
    weights: WeightsRecord

    @property
    def component(self) -> Component:
        """What a bundle records of it."""
        config = msgspec.json.decode(msgspec.json.encode(self.config))
        return Component(self.family.name, config, self.weights)


def load_model(
    family: Family[Any],
    entry: CatalogEntry,
    config: msgspec.Struct | None,
    roles: Sequence[Role] | None,
    weights: str,
    variant: Variant | None,
) -> LoadedModel:
    """Builds a model and gives it the weights that some roles need; None is all that there are.

    Raises:
        InputError: There is no config, or the source of the weights makes no sense.
        CheckpointError: The checkpoint isn't one of this model.
    """
    if config is None:
        raise InputError(f"{entry.name} needs a config", mend="give one with --config")
    module = family.build(config)
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    prefixes = None
    if roles is not None:
        prefixes = tuple(prefix for role in roles for prefix in family.roles[role].prefixes)
    found = find_weights(
        weights, entry, shapes, prefixes, family.spellings, variant, family.passed_over
    )
    state = found.state
    if prefixes is not None:
        state = {key: value for key, value in state.items() if key.startswith(prefixes)}
    module.load_state_dict(state, strict=False, assign=True)
    return LoadedModel(family, config, module.requires_grad_(False).eval(), found.record)


def config_beside(family: Family[Any], entry: CatalogEntry, weights: str) -> msgspec.Struct | None:
    """The config that lies beside weights; None where a family's come without one, or none does.

    Raises:
        InputError: It is another model's, or can't be exported.
        HubError: The hub can't be reached.
    """
    if family.read_folder is None or is_seeded(weights):
        return None
    path = fetch_checkpoint(entry) if weights == "hub" else Path(weights)
    found: msgspec.Struct | None = family.read_folder(path)
    if found is None:
        logger.warning("%s has no config.json beside it: read as %s", path, entry.name)
    elif found != entry.config:
        logger.warning("%s isn't built as %s: exported as its config.json says", path, entry.name)
    return found


def load_roles(
    family: Family[Any],
    entry: CatalogEntry,
    config: msgspec.Struct | None,
    roles: Sequence[Role] | None,
    weights: str,
    variant: Variant | None,
) -> tuple[LoadedModel, tuple[Role, ...]]:
    """A model as of `load_model`, and the roles that it has weights for; each once.

    Raises:
        InputError, CheckpointError: As of `load_model`. A role that has a part of its weights is
            refused with the names of what is lacking.
    """
    model = load_model(family, entry, config, roles, weights, variant)
    if roles is not None:
        # In the family's order: a role may take its weights from the file of one before it.
        return model, tuple(role for role in family.roles if role in roles)
    every = tuple(role for role, export in family.roles.items() if not export.on_request)
    chosen = tuple(role for role in every if _has_own_weights(model, role)) or every
    if not all(_has_weights(model, role) for role in chosen):
        # Asked for by name, they are refused.
        model = load_model(family, entry, config, chosen, weights, variant)
    return model, chosen


def set_role_precision(
    export: RoleExport[Any], module: nn.Module, precision: Precision, residual: str | None = None
) -> None:
    """Converts a wrapped module in place to a precision.

    Raises:
        InputError: The role is exported in float32 only.
    """
    if precision == "int8":
        if export.quantize is None:
            raise InputError(
                "this model isn't exported with weights of 8 bits",
                mend="leave --weights-precision out",
            )
        export.quantize(module)
        return
    compute = COMPUTE_DTYPES[precision]
    if export.set_precision is not None:
        export.set_precision(module, compute, torch.float32 if residual else compute)
    elif compute != torch.float32:
        raise InputError("this model is exported in float32 only", found=precision, expected="fp32")


def _has_own_weights(model: LoadedModel, role: Role) -> bool:
    """Whether the checkpoint had any weights that no other role of the family needs."""
    roles = model.family.roles
    others = {
        prefix
        for name, other in roles.items()
        if name != role and not other.on_request
        for prefix in other.prefixes
    }
    own = tuple(prefix for prefix in roles[role].prefixes if prefix not in others)
    return any(
        not parameter.is_meta
        for key, parameter in model.module.state_dict().items()
        if key.startswith(own)
    )


def _has_weights(model: LoadedModel, role: Role) -> bool:
    """Whether the checkpoint had all weights of a role."""
    prefixes = model.family.roles[role].prefixes
    return not any(
        parameter.is_meta
        for key, parameter in model.module.state_dict().items()
        if key.startswith(prefixes)
    )
