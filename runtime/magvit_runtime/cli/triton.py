"""`magvit triton`: a bundle as a model repository for NVIDIA's Triton Inference Server."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from magvit_runtime.backends.opening import check_options
from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.bundle.reading import open_bundle
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.cli.numbers import in_range
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import BundleArgument
from magvit_runtime.serving.triton.repository import RepositoryOptions, write_repository
from magvit_runtime.types import Pool


def triton(
    bundle: BundleArgument,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    device: Literal["cpu", "gpu"] = "cpu",
    instances: int = 1,
    max_batch: int | None = None,
    queue_delay_us: int | None = None,
    backend: str = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
    pool: Pool = "none",
    frames: int = 17,
    height: int = 128,
    width: int = 128,
    name_prefix: str = "",
    link: Annotated[bool, Parameter(negative="")] = False,
) -> Outcome:
    """Writes a model repository for NVIDIA's Triton Inference Server.

    Models are called tokenizer, classifier, clip_classifier, detokenizer and features, as far as
    the bundle has them. Triton's Python must have this package.

    Args:
        bundle: Directory of the exported model.
        output: Folder of the repository, which mustn't be there yet.
        device: What the models run on: the server's CPU, or each of its GPUs.
        instances: Instances of each model, each a process; on GPUs, of each GPU.
        max_batch: Most clips of a request, and of a batch that Triton makes of several; by default
            the largest batch that all of the bundle's engines take, or 8.
        queue_delay_us: Microseconds that a request may wait for others to make a batch with; by
            default 500 on GPUs, and no batches of several requests on a CPU, which gains nothing.
        backend: What runs the models; auto takes the best of the server.
        precision: Which of the bundle's graphs; the most precise by default.
        threads: CPU threads of an instance; by default the server's CPUs are shared out.
        pool: Of features: none keeps all of a clip's, mean gives one vector.
        frames: Frames of the clips to come, where the bundle takes any: such a one runs at load.
        height: Their height.
        width: Their width.
        name_prefix: What the models' names begin with, for several bundles on one server.
        link: Link to the bundle, which must stay in its place, in place of copying its files.
    """
    check_options(backend, threads)
    for name, value, least in (
        ("--instances", instances, 1),
        ("--max-batch", 1 if max_batch is None else max_batch, 1),
        ("--queue-delay-us", queue_delay_us or 0, 0),
        ("--frames", frames, 1),
        ("--height", height, 1),
        ("--width", width, 1),
    ):
        in_range(name, value, least)
    opened = open_bundle(bundle)
    options = RepositoryOptions(
        device=device,
        instances=instances,
        max_batch=max_batch,
        queue_delay_us=queue_delay_us,
        backend=backend,
        precision=precision,
        threads=threads,
        pool=pool,
        clip=(frames, height, width),
        name_prefix=name_prefix,
        is_linked=link,
    )
    models, left_out = write_repository(opened, output, options)
    label = weights_label(opened)
    command = f"tritonserver --model-repository {shlex.quote(str(output.absolute()))}"
    plugins = next((one.name for one in models if one.calls_plugins), None)
    if plugins is not None:
        library = output.absolute() / plugins / "libmagvit_plugins_autoload.so"
        command += f" --backend-config=tensorrt,plugins={shlex.quote(str(library))}"
    facts = {
        "repository": str(output),
        "weights": label,
        "models": msgspec.to_builtins(models),
        "left_out": msgspec.to_builtins(left_out),
        "command": command,
    }
    lines = [f"{opened.manifest.model}, {label} -> {output}"]
    lines += [
        f"{one.name}: {one.platform}, batches of up to {one.max_batch}"
        + (f"; needs {one.needs}" if one.needs else "")
        for one in models
    ]
    lines += [
        f"left out: {one.what}: {one.why}" + (f". Fix: {one.fix}" if one.fix else "")
        for one in left_out
    ]
    return Outcome(facts, "\n".join([*lines, command]))
