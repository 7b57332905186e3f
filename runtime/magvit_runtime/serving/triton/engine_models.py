"""Engines of TensorRT as models of Triton's own TensorRT backend, without Python.

They take and give the graph's tensors by their names there, and check no range: an id outside the
vocabulary isn't refused. Triton must have the version of TensorRT that built them. Not run yet:
Triton's TensorRT backend needs a GPU.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from magvit_runtime.backends.trt.engines import Engine, check_plan, is_stripped
from magvit_runtime.bundle.engine_records import Profile
from magvit_runtime.bundle.manifest import GraphRecord
from magvit_runtime.bundle.reading import Bundle, graph_sha256
from magvit_runtime.errors import BackendError
from magvit_runtime.native_libraries.lookup import plugin_autoload_library, plugin_library
from magvit_runtime.serving.triton.config_text import (
    DATA_TYPES,
    Value,
    Word,
    config_text,
    map_entries,
)


@dataclass(frozen=True)
class EngineModel:
    """Engines of one graph, version and set of shapes: one model, with a plan for each GPU.

    Attributes:
        graph: Their graph.
        engines: The engine of each compute capability.
    """

    graph: GraphRecord
    engines: dict[str, Engine]

    @property
    def first(self) -> Engine:
        """One of them, for what they share."""
        return next(iter(self.engines.values()))

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The shapes that they take."""
        return self.first.record.key.profiles

    @property
    def calls_plugins(self) -> bool:
        """Whether they call our plugins."""
        return self.first.record.key.plugin_interface is not None

    @property
    def max_batch(self) -> int:
        """Most items of a batch; 0 where batches are of one size, and Triton makes none."""
        ranges = [shapes for profile in self.profiles for shapes in profile.values()]
        is_fixed = all(one.minimum[0] == one.maximum[0] for one in ranges)
        return 0 if is_fixed else max(one.maximum[0] for one in ranges)


def why_not_served(engine: Engine, bundle: Bundle) -> str:
    """Why Triton's TensorRT can't run an engine; "" if nothing is known against it."""
    key = engine.record.key
    graph = bundle.graphs(key.role).get(key.precision)
    if key.flavour != "tensorrt":
        return f"Triton has no {key.flavour}; the Python backend runs it"
    if graph is None or graph_sha256(bundle, graph) != key.onnx_sha256:
        return "it was built of another graph than the bundle's"
    if is_stripped(engine):
        return "it has no weights; the Python backend gives it them"
    return ""


def engine_models(bundle: Bundle, engines: Iterable[Engine]) -> list[EngineModel]:
    """Engines that Triton may run, as models; a second one for a GPU is a model of its own."""
    models: list[EngineModel] = []
    for engine in engines:
        key = engine.record.key
        alike = (
            one
            for one in models
            if not one.engines.keys() & set(key.sms)
            and one.first.record.key.onnx_sha256 == key.onnx_sha256
            and (one.profiles, one.first.record.key.version) == (key.profiles, key.version)
        )
        graph = bundle.graphs(key.role)[key.precision]
        model = next(alike, None)
        if model is None:
            model = EngineModel(graph, {})
            models.append(model)
        model.engines.update(dict.fromkeys(key.sms, engine))
    return models


def write_engine_model(
    model: EngineModel, name: str, folder: Path, instances: int, queue_delay_us: int
) -> None:
    """Writes a model of the platform tensorrt_plan into a repository.

    Args:
        model: The model.
        name: Its name.
        folder: The repository.
        instances: Instances on each GPU.
        queue_delay_us: How long an item may wait until others fill its batch.

    Raises:
        BundleError: A plan is missing or damaged.
        BackendError: It calls our plugins, and their libraries aren't here.
    """
    libraries = _plugins(name) if model.calls_plugins else []
    place = folder / name / "1"
    place.mkdir(parents=True)
    for library in libraries:
        shutil.copyfile(library, folder / name / library.name)
    for plan in {engine.plan: engine for engine in model.engines.values()}.values():
        check_plan(plan)
        shutil.copyfile(plan.plan, place / plan.plan.name)
    fields = _fields(model, name, instances, queue_delay_us)
    (folder / name / "config.pbtxt").write_text(config_text(fields), encoding="utf-8")


def _plugins(name: str) -> list[Path]:
    libraries = [one for one in (plugin_library(), plugin_autoload_library()) if one is not None]
    if len(libraries) < 2:
        raise BackendError(
            f"{name} calls our plugins, whose libraries aren't both here",
            found=", ".join(one.name for one in libraries) or "none",
            expected="libmagvit_plugins.so and libmagvit_plugins_autoload.so",
            mend="build them: docs/engines.md, 'The plugin library'",
        )
    return libraries


def _fields(model: EngineModel, name: str, instances: int, queue_delay_us: int) -> dict[str, Value]:
    """The configuration, without inputs and outputs: Triton reads those of the plan."""
    batch = model.max_batch
    profiles = [str(place) for place in range(len(model.profiles))]
    fields: dict[str, Value] = {
        "name": name,
        "platform": "tensorrt_plan",
        "max_batch_size": batch,
        "cc_model_filenames": map_entries(
            {sm: engine.plan.name for sm, engine in model.engines.items()}
        ),
        "instance_group": [{"kind": Word("KIND_GPU"), "count": instances, "profile": profiles}],
    }
    if batch:
        optima = {shapes.optimum[0] for one in model.profiles for shapes in one.values()}
        fields["dynamic_batching"] = {
            "preferred_batch_size": sorted(size for size in {*optima, batch} if size > 1),
            "max_queue_delay_microseconds": queue_delay_us,
        }
    inputs: dict[str, Value] = {}
    for spec in model.graph.inputs:
        usual = model.profiles[0][spec.name].optimum
        sizes = list(usual[1:] if batch else usual)
        inputs[spec.name] = {
            "data_type": DATA_TYPES[spec.dtype],
            "dims": sizes,
            "zero_data": True,
        }
    items = model.profiles[0][model.graph.inputs[0].name].optimum[0] if batch else 0
    fields["model_warmup"] = [{"name": "zeros", "batch_size": items, "inputs": map_entries(inputs)}]
    return fields
