"""Checkpoint to bundle: the whole of `magvit export`."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import onnx
import torch

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
from magvit_export.families.family import ClipSizes, Family, RoleExport, find_family, stored_config
from magvit_export.first_stage import ROLES as FIRST_STAGE_ROLES
from magvit_export.first_stage import first_stage_family, load_first_stage
from magvit_export.fused_classifier import ROLE as FUSED
from magvit_export.fused_classifier import write_fused_graphs
from magvit_export.loading import LoadedModel, config_beside, load_roles, set_role_precision
from magvit_export.onnx.export import export_onnx
from magvit_export.onnx.functions import OPSET
from magvit_export.onnx.operator_nodes import DOMAIN
from magvit_export.onnx.work import count_work
from magvit_runtime.bundle.manifest import (
    SCHEMA_VERSION,
    Component,
    FileRecord,
    GraphRecord,
    GraphWork,
    Manifest,
    Precision,
    Role,
    TensorSpec,
    WeightsRecord,
)
from magvit_runtime.bundle.reading import MANIFEST_NAME, Bundle, open_bundle
from magvit_runtime.bundle.schema_one import SchemaOne
from magvit_runtime.classifier import CLASSIFIER
from magvit_runtime.errors import InputError
from magvit_runtime.sampling import Sampling

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
class _Part:
    """A model of a bundle, the roles that it is exported in, and their precision."""

    model: LoadedModel
    roles: tuple[Role, ...]
    precision: Precision


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
    tokenizer: str | None = None,
    tokenizer_config: msgspec.Struct | None = None,
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
            its conv inputs to TF32. "int8" is float32 with weights of 8 bits; a first stage stays
            as it is then.
        residual: "fp32" keeps the residual stream of a half-precision graph in float32.
        sizes: Sizes to fix; None leaves all to the caller.
        tokenizer: Weights of the tokenizer that decodes what an autoregressive model generates,
            like `weights`; None is the one in the model's own checkpoint, if that holds one.
        tokenizer_config: That tokenizer's architecture; None is the one of the catalog.
        advance: Told of each role once it is exported.

    Raises:
        InputError: The model can't be exported, or `output` is something else.
        CheckpointError: The checkpoint isn't one of this model.
    """
    family = find_family(entry.family)
    _check_roles(entry, family, roles, tokenizer)
    found = existing_bundle(output)
    old = found if isinstance(found, SchemaOne) else None
    if config is None and old is not None and old.model == entry.name:
        config = stored_config(output, old.config, family.config)
    config = config or config_beside(family, entry, weights) or entry.config
    own = None if roles is None else [role for role in roles if role in family.roles]
    model, chosen = load_roles(family, entry, config, own, weights, variant)
    tokens = None if family.tokens is None else family.tokens(model.config)
    parts = [_Part(model, chosen, precision)]
    if roles is None or set(roles) - {*family.roles}:
        stage = load_first_stage(entry, weights, tokenizer, tokenizer_config, tokens)
        if stage is None and roles is not None:
            raise InputError(
                f"{entry.name} has no weights to decode with", mend="give them with --tokenizer"
            )
        if stage is not None:
            tokens = stage.family.tokens(stage.config) if stage.family.tokens else tokens
            of_stage: Precision = "fp32" if precision == "int8" else precision
            parts.append(_Part(stage, FIRST_STAGE_ROLES, of_stage))
    components = {part.model.family.name: part.model.component for part in parts if part.roles}
    if found is not None:
        _check_same_model(output, found, entry, components)
    with staging_directory(output) as staging:
        staged: list[Path] = []
        made: dict[Role, tuple[Precision, GraphRecord]] = {}
        for part, role in ((one, role) for one in parts for role in one.roles):
            begin = time.perf_counter()
            own_family = part.model.family
            names = written_files(own_family, part.roles, part.precision)
            stored = _stored_graph(own_family.roles[role], part.precision, staging, output)
            files, graph = _export_role(
                part.model, role, part.precision, residual, sizes or ClipSizes(), staging, stored
            )
            files = tuple(file for file in files if file.name in names)
            made[role] = part.precision, graph
            size = sum(file.stat().st_size for file in files)
            advance(ExportedRole(role, time.perf_counter() - begin, size))
            staged += files
        fused = _fused(output, found, made, staging)
        staged += [staging / graph.file for graph in fused.values()]
        staged = [*dict.fromkeys(staged)]  # Graphs may share a file.
        records = file_records(staged)

        def updated(found: Manifest | SchemaOne | None) -> Manifest:
            if found is not None:
                _check_same_model(output, found, entry, components)
            there = found if isinstance(found, Manifest) else None
            graphs: dict[Role, dict[Precision, GraphRecord]] = dict(there.graphs if there else {})
            for role, (of_graph, graph) in made.items():
                graphs[role] = {**_kept_graphs(graphs.get(role, {}), graph), of_graph: graph}
            if "encode" in made:
                of_graph, _ = made["encode"]
                kept = {
                    name: graph
                    for name, graph in graphs.pop(FUSED, {}).items()
                    if GRAPH_PRECISION.get(name, name) != GRAPH_PRECISION.get(of_graph, of_graph)
                }
                if kept or fused:
                    graphs[FUSED] = {**kept, **fused}
            if there is not None:
                _check_kept_weights(output, there, graphs, made, records)
            return Manifest(
                schema_version=SCHEMA_VERSION,
                model=entry.name,
                components={**(there.components if there else {}), **components},
                graphs=graphs,
                files={**(there.files if there else {}), **records},
                made_by=software_versions(),
                created=timestamp(),
                # The first stage says what a token covers.
                tokens=there.tokens if there and len(parts) < len(there.components) else tokens,
                generation=None
                if family.generation is None
                else family.generation(model.config, entry.sampling or Sampling()),
                heads=there.heads if there else {},
                stamps=there.stamps if there else {},
                canaries=there.canaries if there else {},
            )

        publish(output, staged, updated)
        for name in () if old is None else old.encoder_files:
            (output / name).unlink(missing_ok=True)
    return open_bundle(output)


def written_files(
    family: Family[Any], roles: Iterable[Role], precision: Precision
) -> tuple[str, ...]:
    """Names of the files that an export of some roles writes into its bundle."""
    every = dict.fromkeys((*roles, *FIRST_STAGE_ROLES))
    graphs = [Path(_graph_file(role, precision)) for role in every]
    own = (str(graph.with_suffix(".data")) for graph in graphs)
    return (MANIFEST_NAME, *map(str, graphs), *own, *family.shared.values())


def _check_roles(
    entry: CatalogEntry, family: Family[Any], roles: Sequence[Role] | None, tokenizer: str | None
) -> None:
    known = [*family.roles]
    if first_stage_family(entry) is not None:
        known += FIRST_STAGE_ROLES
    elif tokenizer is not None:
        raise InputError(
            f"{entry.name} generates nothing that a tokenizer would decode",
            found=f"--tokenizer {tokenizer}",
            mend="leave --tokenizer out",
        )
    unknown = [role for role in roles or () if role not in known]
    if unknown:
        raise InputError(
            f"the family {family.name!r} has no role {unknown[0]!r}",
            expected=", ".join(known),
        )
    if roles and not set(roles) & family.roles.keys():
        raise InputError(
            f"a bundle of {entry.name} holds the model itself",
            found=", ".join(roles),
            expected=", ".join(family.roles),
            mend=f"magvit export {entry.first_stage} exports a tokenizer alone",
        )


def _export_role(
    model: LoadedModel,
    role: Role,
    precision: Precision,
    residual: Literal["fp32"] | None,
    sizes: ClipSizes,
    folder: Path,
    stored: Path | None = None,
) -> tuple[tuple[Path, ...], GraphRecord]:
    export, config = model.family.roles[role], model.config
    module = export.wrap(model.module).eval()
    set_role_precision(export, module, precision, residual)
    check_cast(module, precision)
    inputs = _typed(export.inputs(config, sizes), precision)
    outputs = _typed(export.outputs(config, sizes), precision)
    example = [
        tensor.to(getattr(torch, spec.dtype))
        for tensor, spec in zip(export.example(config, sizes), inputs, strict=True)
    ]
    path = folder / _graph_file(role, precision)
    files = export_onnx(
        module,
        tuple(example),
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
        stored=stored,
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


def _typed(specs: tuple[TensorSpec, ...], precision: Precision) -> tuple[TensorSpec, ...]:
    """Tensors of a role in a precision: a state is of the type that the graph computes in."""
    if precision != "fp16":  # NumPy has no bfloat16.
        return specs
    return tuple(
        msgspec.structs.replace(spec, dtype="float16")
        if spec.kind == "state" and spec.dtype == "float32"
        else spec
        for spec in specs
    )


def _graph_file(role: Role, precision: Precision) -> str:
    return f"{role}.{GRAPH_PRECISION.get(precision, precision)}.onnx"


def _stored_graph(
    export: RoleExport[Any], precision: Precision, staging: Path, output: Path
) -> Path | None:
    """The graph that has a role's weights already: just exported, or in the bundle.

    Files of the bundle are copied to the folder, so that the new graph finds them beside it. (Links
    are refused by the libraries that read them.)
    """
    if export.stored_with is None:
        return None
    path = staging / _graph_file(export.stored_with, precision)
    if path.is_file():
        return path
    found = existing_bundle(output)
    graph = found.graphs.get(export.stored_with, {}) if isinstance(found, Manifest) else {}
    record = graph.get(precision)
    if record is None:
        return None
    bundle = open_bundle(output)
    bundle.verified_graph(record)
    for name in (record.file, *record.data):
        shutil.copyfile(output / name, staging / name)
    return staging / record.file


def _fused(
    output: Path,
    found: Manifest | SchemaOne | None,
    made: Mapping[Role, tuple[Precision, GraphRecord]],
    staging: Path,
) -> dict[Precision, GraphRecord]:
    """A new encoder with the classifier that a bundle has already, in one graph."""
    if not isinstance(found, Manifest) or "encode" not in made or found.tokens is None:
        return {}
    classifiers, head = found.graphs.get("classify"), found.heads.get(CLASSIFIER)
    if not classifiers or head is None:
        return {}
    precision, encoder = made["encode"]
    return write_fused_graphs(
        staging, output, {precision: encoder}, classifiers["fp32"], found.tokens, head.drawing
    )


def _check_kept_weights(
    output: Path,
    there: Manifest,
    graphs: Mapping[Role, Mapping[Precision, GraphRecord]],
    made: Iterable[Role],
    records: Mapping[str, FileRecord],
) -> None:
    """Refuses to replace a file of weights that a graph of another role takes its own from."""
    changed = {name for name, record in records.items() if there.files.get(name, record) != record}
    new = tuple(made)
    for role, by_precision in graphs.items():
        if role not in (*new, FUSED) and any(
            changed & {*graph.data} for graph in by_precision.values()
        ):
            raise InputError(
                f"{output} has a graph of the role {role} that takes its weights from a file which "
                "this export would change",
                found=", ".join(sorted(changed)),
                mend=f"export both: --roles {','.join((*new, role))}",
            )


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
    output: Path,
    existing: Manifest | SchemaOne,
    entry: CatalogEntry,
    components: Mapping[str, Component],
) -> None:
    first, *others = components
    old = existing if isinstance(existing, SchemaOne) else existing.component
    pairs: list[tuple[Component | SchemaOne, Component]] = [(old, components[first])]
    if isinstance(existing, Manifest):
        pairs += [
            (existing.components[name], components[name])
            for name in others
            if name in existing.components
        ]
    for there, new in pairs:
        found = _identity(existing.model, there.config, there.weights)
        expected = _identity(entry.name, new.config, new.weights)
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
