"""Checkpoint to bundle: the whole of `magvit export`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import onnx
import torch
from torch import nn

from magvit_export.bundle_writer import (
    existing_bundle,
    file_records,
    publish,
    software_versions,
    staging_directory,
    timestamp,
)
from magvit_export.catalog import CatalogEntry
from magvit_export.checkpoints.finite import check_cast
from magvit_export.checkpoints.reading import Variant
from magvit_export.checkpoints.weights import Weights, find_weights
from magvit_export.families.family import ClipSizes, Family, RoleExport, find_family, stored_config
from magvit_export.onnx.export import export_onnx
from magvit_export.onnx.functions import OPSET
from magvit_export.onnx.operator_nodes import DOMAIN
from magvit_export.onnx.work import count_work
from magvit_runtime.bundle.manifest import (
    SCHEMA_VERSION,
    Component,
    GraphRecord,
    GraphWork,
    Manifest,
    Precision,
    Role,
    WeightsRecord,
)
from magvit_runtime.bundle.reading import MANIFEST_NAME, Bundle, open_bundle
from magvit_runtime.bundle.schema_one import SchemaOne
from magvit_runtime.errors import InputError

COMPUTE_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
# TF32 is fp32's graph: the hardware's leave to round, not another model.
GRAPH_PRECISION: dict[Precision, Precision] = {"tf32": "fp32"}


@dataclass(frozen=True)
class ExportedRole:
    """What exporting one role took.

    Attributes:
        role: The role.
        seconds: Time that it took, without reading the checkpoint.
        size: Bytes of its graph and weights.
    """

    role: Role
    seconds: float
    size: int


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
    weights: Weights

    @property
    def component(self) -> Component:
        """What a bundle records of it."""
        config = msgspec.json.decode(msgspec.json.encode(self.config))
        return Component(self.family.name, config, self.weights.record)


def export_model(
    entry: CatalogEntry,
    output: Path,
    *,
    weights: str,
    roles: Sequence[Role] | None = None,
    variant: Variant | None = None,
    config: msgspec.Struct | None = None,
    precision: Precision = "fp32",
    residual: Literal["fp32"] | None = None,
    sizes: ClipSizes | None = None,
    advance: Callable[[ExportedRole], None] = lambda _: None,
) -> Bundle:
    """Exports a model into a bundle, a graph a role, each with a file of weights of its own.

    What graphs of several roles hold lies in a file that they share (`Family.shared`).

    An existing bundle of the same model and weights gains the graphs; its other files stay. One of
    the first schema is replaced: its encoder's files go, and all else stays in the folder, no part
    of the bundle.

    Args:
        entry: The model.
        output: The bundle's directory.
        weights: Path of a checkpoint, "hub", "seeded" or "seeded:N".
        roles: What to export of it; None is all that its family has and the checkpoint has weights
            for.
        variant: "ema" or "raw" weights; None takes EMA weights where there are any.
        config: Architecture, where it isn't the model's own; None also keeps that of a bundle of
            the first schema.
        precision: Precision of the graphs. "tf32" is the fp32 graph, on hardware that may round
            its conv inputs to TF32.
        residual: "fp32" keeps the residual stream of a half-precision graph in float32.
        sizes: Sizes to fix; None leaves all to the caller.
        advance: Told of each role once it is exported.

    Raises:
        InputError: The model can't be exported, or `output` is something else.
        CheckpointError: The checkpoint isn't one of this model.
    """
    family = find_family(entry.family)
    _check_roles(family, roles)
    found = existing_bundle(output)
    old = found if isinstance(found, SchemaOne) else None
    if config is None and old is not None and old.model == entry.name:
        config = stored_config(output, old.config, family.config)
    config = config or entry.config
    model = load_model(family, entry, config, roles, weights, variant)
    chosen = tuple(family.roles) if roles is None else tuple(dict.fromkeys(roles))
    if roles is None:
        chosen = tuple(role for role in chosen if _has_own_weights(model, role)) or chosen
        if not all(_has_weights(model, role) for role in chosen):
            # Asked for by name, they are refused with the names of what is lacking.
            model = load_model(family, entry, config, chosen, weights, variant)
    if found is not None:
        _check_same_model(output, found, entry, model.component)
    with staging_directory(output) as staging:
        staged: list[Path] = []
        made: dict[Role, GraphRecord] = {}
        for role in chosen:
            begin = time.perf_counter()
            files, made[role] = _export_role(
                model, role, precision, residual, sizes or ClipSizes(), staging
            )
            size = sum(file.stat().st_size for file in files)
            advance(ExportedRole(role, time.perf_counter() - begin, size))
            staged += files
        staged = [*dict.fromkeys(staged)]  # Graphs may share a file.
        records = file_records(staged)

        def updated(found: Manifest | SchemaOne | None) -> Manifest:
            if found is not None:
                _check_same_model(output, found, entry, model.component)
            there = found if isinstance(found, Manifest) else None
            graphs: dict[Role, dict[Precision, GraphRecord]] = dict(there.graphs if there else {})
            for role, graph in made.items():
                graphs[role] = {**_kept_graphs(graphs.get(role, {}), graph), precision: graph}
            return Manifest(
                schema_version=SCHEMA_VERSION,
                model=entry.name,
                components={**(there.components if there else {}), family.name: model.component},
                graphs=graphs,
                files={**(there.files if there else {}), **records},
                made_by=software_versions(),
                created=timestamp(),
                tokens=None if family.tokens is None else family.tokens(model.config),
                heads=there.heads if there else {},
                stamps=there.stamps if there else {},
            )

        publish(output, staged, updated)
        for name in () if old is None else old.encoder_files:
            (output / name).unlink(missing_ok=True)
    return open_bundle(output)


def written_files(
    family: Family[Any], roles: Iterable[Role], precision: Precision
) -> tuple[str, ...]:
    """Names of the files that an export of some roles writes into its bundle."""
    graphs = [Path(_graph_file(role, precision)) for role in roles]
    own = (str(graph.with_suffix(".data")) for graph in graphs)
    return (MANIFEST_NAME, *map(str, graphs), *own, *family.shared.values())


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
    found = find_weights(weights, entry, shapes, prefixes, family.spellings, variant)
    state = found.state
    if prefixes is not None:
        state = {key: value for key, value in state.items() if key.startswith(prefixes)}
    module.load_state_dict(state, strict=False, assign=True)
    return LoadedModel(family, config, module.requires_grad_(False).eval(), found)


def set_role_precision(
    export: RoleExport[Any], module: nn.Module, precision: Precision, residual: str | None = None
) -> None:
    """Converts a wrapped module in place to a precision.

    Raises:
        InputError: The role is exported in float32 only.
    """
    compute = COMPUTE_DTYPES[precision]
    if export.set_precision is not None:
        export.set_precision(module, compute, torch.float32 if residual else compute)
    elif compute != torch.float32:
        raise InputError("this model is exported in float32 only", found=precision, expected="fp32")


def _check_roles(family: Family[Any], roles: Sequence[Role] | None) -> None:
    unknown = [role for role in roles or () if role not in family.roles]
    if unknown:
        raise InputError(
            f"the family {family.name!r} has no role {unknown[0]!r}",
            expected=", ".join(family.roles),
        )


def _has_own_weights(model: LoadedModel, role: Role) -> bool:
    """Whether the checkpoint had any weights that no other role of the family needs."""
    roles = model.family.roles
    others = {prefix for name in roles if name != role for prefix in roles[name].prefixes}
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


def _export_role(
    model: LoadedModel,
    role: Role,
    precision: Precision,
    residual: Literal["fp32"] | None,
    sizes: ClipSizes,
    folder: Path,
) -> tuple[tuple[Path, ...], GraphRecord]:
    export, config = model.family.roles[role], model.config
    module = export.wrap(model.module).eval()
    set_role_precision(export, module, precision, residual)
    check_cast(module, precision)
    inputs, outputs = export.inputs(config, sizes), export.outputs(config, sizes)
    path = folder / _graph_file(role, precision)
    files = export_onnx(
        module,
        export.example(config, sizes),
        path,
        input_names=[spec.name for spec in inputs],
        output_names=[spec.name for spec in outputs],
        dynamic=[
            {axis: size for axis, size in enumerate(spec.shape) if isinstance(size, str)}
            for spec in inputs
        ],
        # Conv takes bfloat16 from opset 22 on; the others stay where more runtimes read them.
        opset=22 if torch.bfloat16 in {p.dtype for p in module.parameters()} else OPSET,
        shared=model.family.shared,
    )
    record = GraphRecord(
        file=path.name,
        data=tuple(file.name for file in files[1:]),
        inputs=inputs,
        outputs=outputs,
        operators=_count_operators(path),
        preprocessing=None if export.preprocessing is None else export.preprocessing(config),
        postprocessing=None if export.postprocessing is None else export.postprocessing(config),
        residual=residual,
        work=_work(model, export, precision, residual, sizes),
    )
    return files, record


def _graph_file(role: Role, precision: Precision) -> str:
    return f"{role}.{GRAPH_PRECISION.get(precision, precision)}.onnx"


def _work(
    model: LoadedModel,
    export: RoleExport[Any],
    precision: Precision,
    residual: Literal["fp32"] | None,
    sizes: ClipSizes,
) -> GraphWork:
    """The work of one item; sizes that were fixed are the item's."""
    module = export.wrap(model.family.build(model.config)).eval()
    set_role_precision(export, module, precision, residual)
    nominal = export.nominal(model.config)
    fixed = {name: size for name, size in asdict(sizes).items() if size and name != "batch"}
    item = replace(nominal, **fixed)
    inputs = export.inputs(model.config, item)
    return count_work(module, export.example(model.config, item), inputs)


def _count_operators(path: Path) -> dict[str, int]:
    """Nodes of each of our own operators."""
    nodes = onnx.load(path, load_external_data=False).graph.node
    return dict(Counter(node.op_type for node in nodes if node.domain == DOMAIN))


def _kept_graphs(
    graphs: Mapping[Precision, GraphRecord], new: GraphRecord
) -> dict[Precision, GraphRecord]:
    """A role's graphs that a bundle has already; one that shares the new one's file becomes it."""
    return {name: new if old.file == new.file else old for name, old in graphs.items()}


def _check_same_model(
    output: Path, existing: Manifest | SchemaOne, entry: CatalogEntry, component: Component
) -> None:
    old = existing if isinstance(existing, SchemaOne) else existing.component
    found = _identity(existing.model, old.config, old.weights)
    expected = _identity(entry.name, component.config, component.weights)
    names = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
    if names:
        raise InputError(
            f"{output} holds a bundle of another model or other weights",
            found=", ".join(f"{name} {found.get(name)}" for name in names),
            expected=", ".join(f"{name} {expected.get(name)}" for name in names),
            mend="choose another -o, or remove it",
        )


def _identity(model: str, config: Mapping[str, Any], weights: WeightsRecord) -> dict[str, object]:
    """What all exports into one bundle have in common. A file may have been renamed meanwhile."""
    return {
        "model": model,
        "weights": weights.name if weights.sha256 is None else f"of sha256 {weights.sha256}",
        "variant": weights.variant,
        **config,
    }
