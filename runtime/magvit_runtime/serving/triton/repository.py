"""Writes Triton's model repository for a bundle: a folder that holds all that a server needs.

tokenizer/config.pbtxt       inputs, outputs, batching, instances, parameters
tokenizer/1/model.py         takes the model's class from this package
tokenizer/bundle/            the bundle's files of this role, or a link to the bundle
tokenizer_plan_fp16/         engines for Triton's own TensorRT, on GPUs
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Literal

import msgspec

from magvit_runtime.backends.trt.engines import Engine, find_engines
from magvit_runtime.bundle.canary import verify_command
from magvit_runtime.bundle.content_store import MANIFEST_NAME
from magvit_runtime.bundle.engine_records import ShapeRange
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.tuning_file import TUNING_FILE
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.files.atomic_folder import atomic_folder
from magvit_runtime.files.atomic_write import naming_full_disks
from magvit_runtime.serving.triton.config_text import Value, Word, config_text, map_entries, tensor
from magvit_runtime.serving.triton.engine_models import (
    engine_models,
    why_not_served,
    write_engine_model,
)
from magvit_runtime.serving.triton.roles import (
    MODEL_NAMES,
    input_of,
    outputs_of,
    usual_item,
)
from magvit_runtime.serving.triton.settings import ModelSettings
from magvit_runtime.types import Pool, Precision, Shape

MODEL_CODE = '''\
"""A model of magvit-runtime, of the version that is installed for Triton's Python."""

from magvit_runtime.serving.triton.model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''
# Of a GPU, where no engine says more.
USUAL_BATCH = 8
# How long items wait for more of a batch on a GPU, where nobody says more.
GPU_QUEUE_DELAY_US = 500


class RepositoryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the models of a repository are served.

    Attributes:
        device: Whether instances run on the CPU or on each of the server's GPUs.
        instances: Instances of each model; on GPUs, of each GPU.
        max_batch: Most items of a request, and of a batch that Triton makes of several; None takes
            the largest batch that all of the bundle's engines take, or 8.
        queue_delay_us: How long an item may wait until others fill its batch, in microseconds; None
            is 500 on a GPU, and on a CPU no batches of several requests, as it gains nothing.
        backend: What runs the models.
        precision: Which of the bundle's graphs.
        threads: CPU threads of an instance; None shares out the server's CPUs among the instances.
        pool: How features are pooled.
        clip: Frames, height and width of the clips to come, which run at load.
        name_prefix: What the models' names begin with.
        is_linked: Whether the repository links to the bundle in place of copying its files.
    """

    device: Literal["cpu", "gpu"] = "cpu"
    instances: int = 1
    max_batch: int | None = None
    queue_delay_us: int | None = None
    backend: str = "auto"
    precision: Precision | None = None
    threads: int | None = None
    pool: Pool = "none"
    clip: Shape = (17, 128, 128)
    name_prefix: str = ""
    is_linked: bool = False

    @property
    def delay_us(self) -> int | None:
        """How long an item may wait; None where Triton makes no batches."""
        if self.queue_delay_us is None and self.device == "gpu":
            return GPU_QUEUE_DELAY_US
        return self.queue_delay_us


class WrittenModel(msgspec.Struct, frozen=True):
    """A model of a repository.

    Attributes:
        name: Its name.
        role: What it does.
        platform: "python", or "tensorrt_plan" for engines in Triton's own TensorRT.
        max_batch: Most items of a request.
        has_canary: Whether it is compared with the bundle's canary at load.
        needs: What the server must have for it: a version of TensorRT; "" for the Python backend.
        calls_plugins: Whether the server must load our plugins for it.
    """

    name: str
    role: Role
    platform: str
    max_batch: int
    has_canary: bool = False
    needs: str = ""
    calls_plugins: bool = False


class LeftOut(msgspec.Struct, frozen=True):
    """What of a bundle isn't served, why, and the fix; "" where there is none."""

    what: str
    why: str
    fix: str = ""


def write_repository(
    bundle: Bundle, path: Path, options: RepositoryOptions
) -> tuple[list[WrittenModel], list[LeftOut]]:
    """Writes a model repository for all roles of a bundle that can be served.

    Args:
        bundle: The bundle.
        path: The repository's folder, which isn't there yet or is empty.
        options: How its models are served.

    Raises:
        InputError: Something is at `path`, or no role of the bundle can be served.
        BundleError: A file of the bundle is missing or was changed.
        MagvitError: The disk is full.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]*", options.name_prefix):
        raise InputError(
            "no model of Triton's can have such a name",
            found=options.name_prefix,
            expected="letters, digits, _, - and .",
        )
    written: list[WrittenModel] = []
    left_out: list[LeftOut] = []
    with atomic_folder(path) as folder, naming_full_disks(path):
        for role, name in MODEL_NAMES.items():
            graphs = bundle.graphs(role)
            if graphs and options.precision not in (None, *graphs):
                left_out.append(LeftOut(role, f"it has no {options.precision} graph"))
                continue
            if not graphs:
                continue
            try:
                model = _write_python_model(
                    bundle, role, options.name_prefix + name, folder, options
                )
            except InputError as error:
                left_out.append(LeftOut(role, str(error)))
                continue
            written.append(model)
            if not model.has_canary:
                why = "the bundle has no canary to compare it with at load"
                left_out.append(
                    LeftOut(f"canary of {model.name}", why, verify_command(bundle, role))
                )
        generating = bundle.manifest.graphs.keys() - MODEL_NAMES.keys()
        left_out += [LeftOut(role, "models that generate aren't served") for role in generating]
        if options.device == "gpu":
            models, unfit = _write_engine_models(bundle, folder, options)
            written += models
            left_out += unfit
        if not written:
            raise InputError(
                f"nothing of {bundle.path} can be served",
                found="; ".join(one.why for one in left_out) or "no graph",
            )
    return written, left_out


def _write_python_model(
    bundle: Bundle, role: Role, name: str, folder: Path, options: RepositoryOptions
) -> WrittenModel:
    """Writes a model of the Python backend.

    Raises:
        InputError: No class serves such a graph.
    """
    _, graph = bundle.graph(role, options.precision)
    given, made = input_of(role, graph), outputs_of(role, graph, options.pool)
    engines = _engines(bundle, role) if options.device == "gpu" else []
    usual = min((_largest_batch(one) for one in engines), default=USUAL_BATCH)
    max_batch = options.max_batch or usual
    settings = ModelSettings(
        role=role,
        backend=options.backend,
        precision=options.precision,
        pool=options.pool,
        threads=options.threads,
        # A CPU is fastest at one; more of a request run one after another.
        batch_size=min(max_batch, usual) if options.device == "gpu" else 1,
        canary=role in bundle.manifest.canaries,
        warm_up=",".join(map(str, usual_item(bundle, graph, options.clip))),
    )
    fields: dict[str, Value] = {
        "name": name,
        "backend": "python",
        "max_batch_size": max_batch,
        "input": [tensor(given.name, given.dtype, given.shape)],
        "output": [tensor(one.name, one.dtype, one.shape) for one in made],
        "instance_group": [
            {"kind": Word(f"KIND_{options.device.upper()}"), "count": options.instances}
        ],
    }
    if options.delay_us is not None:
        preferred = {one.optimum[0] for engine in engines for one in _ranges(engine)} | {
            settings.batch_size,
            max_batch,
        }
        fields["dynamic_batching"] = {
            "preferred_batch_size": [size for size in sorted(preferred) if 1 < size <= max_batch],
            "max_queue_delay_microseconds": options.delay_us,
        }
    fields["parameters"] = map_entries(
        {key: {"string_value": value} for key, value in settings.parameters().items()}
    )
    model = folder / name
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text(MODEL_CODE, encoding="utf-8")
    (model / "config.pbtxt").write_text(config_text(fields), encoding="utf-8")
    if options.is_linked:
        (model / "bundle").symlink_to(bundle.path.resolve(), target_is_directory=True)
    else:
        _copy_role(bundle, role, model / "bundle")
    return WrittenModel(name, role, "python", max_batch, settings.canary)


def _write_engine_models(
    bundle: Bundle, folder: Path, options: RepositoryOptions
) -> tuple[list[WrittenModel], list[LeftOut]]:
    """Writes the engines that Triton's TensorRT may run as models of its platform."""
    written: list[WrittenModel] = []
    left_out: list[LeftOut] = []
    for role, base in MODEL_NAMES.items():
        fit: list[Engine] = []
        for engine in _engines(bundle, role):
            why = why_not_served(engine, bundle)
            if why:
                left_out.append(LeftOut(f"{engine.plan.name} as tensorrt_plan", why))
            else:
                fit.append(engine)
        for number, model in enumerate(engine_models(bundle, fit), 1):
            precision = model.first.record.key.precision
            name = f"{options.name_prefix}{base}_plan_{precision}" + (
                f"_{number}" if number > 1 else ""
            )
            try:
                write_engine_model(model, name, folder, options.instances, options.delay_us or 0)
            except BackendError as error:
                left_out.append(LeftOut(name, str(error)))
                continue
            version = f"TensorRT {model.first.record.key.version}"
            written.append(
                WrittenModel(
                    name,
                    role,
                    "tensorrt_plan",
                    model.max_batch,
                    needs=version,
                    calls_plugins=model.calls_plugins,
                )
            )
    return written, left_out


def _engines(bundle: Bundle, role: Role) -> list[Engine]:
    found = [one for one in find_engines(bundle) if isinstance(one, Engine)]
    return [one for one in found if one.record.key.role == role]


def _ranges(engine: Engine) -> list[ShapeRange]:
    return [shapes for profile in engine.record.key.profiles for shapes in profile.values()]


def _largest_batch(engine: Engine) -> int:
    return max(one.maximum[0] for one in _ranges(engine))


def _copy_role(bundle: Bundle, role: Role, target: Path) -> None:
    """Copies the files that a role needs; links become files.

    Raises:
        BundleError: A file is missing or was changed.
    """
    names = {name for graph in bundle.graphs(role).values() for name in (graph.file, *graph.data)}
    if role in bundle.manifest.canaries:
        names.add(bundle.manifest.canaries[role].file)
    files = [bundle.verified_file(name).relative_to(bundle.path) for name in sorted(names)]
    plans = (engine.plan for engine in _engines(bundle, role))
    more = [Path(MANIFEST_NAME), Path(TUNING_FILE)]
    for plan in plans:
        more += [plan.relative_to(bundle.path), plan.with_suffix(".json").relative_to(bundle.path)]
    for name in [*files, *more]:
        if (bundle.path / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / name, target / name)
