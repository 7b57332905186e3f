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
    WeightsRecord,
)
from magvit_runtime.bundle.reading import MANIFEST_NAME, Bundle, open_bundle
from magvit_runtime.bundle.schema_one import SchemaOne
from magvit_runtime.errors import InputError

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
    config = config or config_beside(family, entry, weights) or entry.config
    model, chosen = load_roles(family, entry, config, roles, weights, variant)
    if found is not None:
        _check_same_model(output, found, entry, model.component)
    with staging_directory(output) as staging:
        names = written_files(family, chosen, precision)
        staged: list[Path] = []
        made: dict[Role, GraphRecord] = {}
        for role in chosen:
            begin = time.perf_counter()
            stored = _stored_graph(family.roles[role], precision, staging, output)
            files, made[role] = _export_role(
                model, role, precision, residual, sizes or ClipSizes(), staging, stored
            )
            files = tuple(file for file in files if file.name in names)
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
            if there is not None:
                _check_kept_weights(output, there, graphs, made, records)
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
    graphs = [Path(_graph_file(role, precision)) for role in roles]
    own = (str(graph.with_suffix(".data")) for graph in graphs)
    return (MANIFEST_NAME, *map(str, graphs), *own, *family.shared.values())


def _check_roles(family: Family[Any], roles: Sequence[Role] | None) -> None:
    unknown = [role for role in roles or () if role not in family.roles]
    if unknown:
        raise InputError(
            f"the family {family.name!r} has no role {unknown[0]!r}",
            expected=", ".join(family.roles),
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


def _check_kept_weights(
    output: Path,
    there: Manifest,
    graphs: Mapping[Role, Mapping[Precision, GraphRecord]],
    made: Mapping[Role, GraphRecord],
    records: Mapping[str, FileRecord],
) -> None:
    """Refuses to replace a file of weights that a graph of another role takes its own from."""
    changed = {name for name, record in records.items() if there.files.get(name, record) != record}
    for role, by_precision in graphs.items():
        if role not in made and any(changed & {*graph.data} for graph in by_precision.values()):
            raise InputError(
                f"{output} has a graph of the role {role} that takes its weights from a file which "
                "this export would change",
                found=", ".join(sorted(changed)),
                mend=f"export both: --roles {','.join((*made, role))}",
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
