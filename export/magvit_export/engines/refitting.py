"""Gives engines the weights of a new checkpoint, without a build: the whole of `magvit refit`."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from magvit_export.bundle_writer import timestamp
from magvit_export.engines.trial import Trial, try_engine
from magvit_runtime.backends.trt.engines import (
    Engine,
    UnreadableEngine,
    check_plan,
    find_engines,
    first_mismatch,
    rebuild_command,
)
from magvit_runtime.backends.trt.refitting import refitted_plan
from magvit_runtime.bundle.manifest import FileRecord
from magvit_runtime.bundle.onnx_weights import structure_sha256
from magvit_runtime.bundle.reading import Bundle, graph_sha256
from magvit_runtime.errors import MagvitError
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.files.locks import folder_lock
from magvit_runtime.files.temporary import temporary_folder
from magvit_runtime.hardware.machine import Machine


@dataclass(frozen=True)
class Refit:
    """What became of an engine.

    Attributes:
        name: File of its plan.
        engine: The engine of the new weights, which takes its place; None if it stays as it was.
        why_not: Why it does; "" if it doesn't.
        trial: What the new engine gave on the bundle's canary.
    """

    name: str
    engine: Engine | None
    why_not: str = ""
    trial: Trial | None = None


def refit_engines(bundle: Bundle, machine: Machine) -> list[Refit]:
    """Gives a bundle's engines the weights of its graphs, where they were built for others.

    An engine takes them if it was built with `--refit` and its graph differed in weights alone.

    Args:
        bundle: A bundle that was exported again, from a checkpoint of the same architecture.
        machine: This machine.

    Raises:
        BundleError: A graph or a plan was changed since it was written.
        BuildError: A new engine isn't the model; it is removed, and the old one stays.
    """
    found = list(find_engines(bundle))
    return [_refit(bundle, machine, engine) for engine in found]


def _refit(bundle: Bundle, machine: Machine, engine: Engine | UnreadableEngine) -> Refit:
    name = engine.plan.name
    if isinstance(engine, UnreadableEngine):
        return Refit(name, None, engine.why)
    key = engine.record.key
    graph = bundle.graphs(key.role).get(key.precision)
    if graph is None:
        return Refit(name, None, f"the bundle has no {key.precision} graph for {key.role}")
    digest = graph_sha256(bundle, graph)
    if digest == key.onnx_sha256:
        return Refit(name, None, "it has the weights of the bundle's graph")
    if engine.record.structure_sha256 is None:
        return Refit(name, None, f"it wasn't built with --refit ({rebuild_command(engine)})")
    onnx = bundle.verified_graph(graph)
    if structure_sha256(onnx) != engine.record.structure_sha256:
        why = f"the graph differs in more than weights ({rebuild_command(engine)})"
        return Refit(name, None, why)
    record = msgspec.structs.replace(
        engine.record,
        key=msgspec.structs.replace(key, onnx_sha256=digest),
        created=timestamp(),
        canary_outputs=None,
    )
    new = Engine(engine.plan.with_name(f"{record.key.name}.plan"), record)
    if mismatch := first_mismatch(new, bundle, machine):
        why = f"{mismatch.what}: built for {mismatch.engine}, here {mismatch.here}"
        return Refit(name, None, why)
    check_plan(engine)
    try:
        content = refitted_plan(engine, onnx, machine.gpu_number or 0)
    except MagvitError as error:
        return Refit(name, None, str(error))
    new = _written(new, content)
    trial = try_engine(bundle, new)
    # The sidecar first, and what TensorRT-RTX compiled of the plan.
    for path in sorted(engine.plan.parent.glob(f"{engine.plan.stem}.*")):
        path.unlink()
    return Refit(name, new, trial=trial)


def _written(engine: Engine, content: bytes) -> Engine:
    """Writes a plan, and then its sidecar."""
    folder = engine.plan.parent
    with folder_lock(folder), temporary_folder(folder, "refit") as staging:
        plan = staging / engine.plan.name
        plan.write_bytes(content)
        file = FileRecord(len(content), file_sha256(plan))
        record = msgspec.structs.replace(engine.record, plan=file)
        sidecar = plan.with_suffix(".json")
        sidecar.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
        plan.replace(engine.plan)
        sidecar.replace(engine.plan.with_suffix(".json"))
    return Engine(engine.plan, record)
