"""`magvit generate`: classes to images, made token by token."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.cli.numbers import in_range
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import BundleArgument
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.clips.image_grid import write_image_grid
from magvit_runtime.detokenizer import Detokenizer
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_folder import atomic_folder
from magvit_runtime.files.outputs import check_outputs
from magvit_runtime.generator import DEFAULT_BATCH, Generator
from magvit_runtime.results.clip_files import png_writer
from magvit_runtime.results.token_files import token_writer
from magvit_runtime.sampling import checked

TOKENS, SHEET = "tokens.npz", "sheet.png"


@dataclass(frozen=True)
class SamplingOptions:
    """Settings of sampling, each as two values: of the first and of the second part of a token.

    Attributes:
        temperature: What logits are divided by, as 1.0,1.0; 0 takes the most probable value.
        guidance: Scale of classifier-free guidance, as 1.9,2.0; up to 1 it is off.
        top_k: Only the k most probable values are taken, as 0,600; 0 is all.
        top_p: Only the most probable values with this share together, as 1.0,0.9.
    """

    temperature: str | None = None
    guidance: str | None = None
    top_k: str | None = None
    top_p: str | None = None


DEFAULT_SAMPLING = SamplingOptions()


def generate(
    bundle: BundleArgument,
    *,
    classes: str,
    output: Annotated[Path, Parameter(alias="-o")],
    count: int = 1,
    seed: int = 0,
    sampling: Annotated[SamplingOptions, Parameter(name="*")] = DEFAULT_SAMPLING,
    backend: str = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
    batch_size: int = DEFAULT_BATCH,
) -> Outcome:
    """Makes images of classes with an autoregressive model.

    Writes a PNG an image, a sheet of all, and their tokens in a file as of `magvit tokenize`. A
    bundle without a decoder writes the tokens alone.

    Args:
        bundle: Directory of the exported model, or hf://OWNER/NAME@REVISION on the hub.
        classes: Numbers of the classes, separated by commas, as 207,88.
        output: The folder to write.
        count: Images of each class.
        seed: Of the random numbers.
        sampling: How tokens are chosen; by default as the model's authors do.
        backend: What runs the model; auto takes the best of this machine.
        precision: Which of the bundle's graphs, int8 too; the most precise by default.
        threads: CPU threads; the backend's own choice by default.
        batch_size: Images that are made together; memory grows with it.
    """
    check_outputs(output, inputs=(bundle,))
    numbers = _numbers("--classes", classes, int)
    wanted = [one for one in numbers for _ in range(in_range("--count", count, 1))]
    names = _image_names(wanted)
    settings = {name: _pair(name, text) for name, text in vars(sampling).items()}
    with (
        Generator.open(
            bundle, backend=backend, precision=precision, threads=threads, batch_size=batch_size
        ) as generator,
        atomic_folder(output) as folder,
        ExitStack() as decoders,
    ):
        opened, capabilities = generator.bundle, generator.capabilities
        used = checked(generator.sampling, **settings)
        pictures = None
        if opened.graphs("decode"):  # Opened before minutes of work.
            pictures = png_writer(folder)
            decoder = decoders.enter_context(Detokenizer.open(bundle, threads=threads))
        ids = _generated(generator, wanted, seed, settings, batch_size)
        with token_writer(folder / TOKENS, opened) as tokens:
            tokens.write(names, tuple(map(str, wanted)), ids)
        if pictures is not None:
            images = np.concatenate([decoder(one[None]) for one in ids])
            pictures.write(names, images)
            columns = count if count > 1 else math.isqrt(len(wanted) - 1) + 1
            write_image_grid(folder / SHEET, images, columns)
    label = weights_label(opened)
    facts = {
        "images": len(wanted),
        "classes": wanted,
        "output": str(output),
        "pictures": pictures is not None,
        "seed": seed,
        "sampling": msgspec.to_builtins(used),
        "weights": label,
        "backend": capabilities.backend,
        "precision": capabilities.precision,
        "reason": capabilities.reason,
    }
    pairs = ", ".join(
        f"{name} {first:g},{second:g}" for name, (first, second) in facts["sampling"].items()
    )
    lines = [
        f"{len(wanted)} images of {len(set(wanted))} classes -> {output}",
        f"seed {seed}; {pairs}",
        f"{opened.manifest.model}, {label}; {capabilities.backend} {capabilities.version} on "
        f"{capabilities.device} ({capabilities.reason})",
    ]
    if pictures is None:
        lines.append(
            f"tokens alone, as {bundle} has no decoder. Fix: magvit export "
            f"{opened.manifest.model} … --tokenizer imagenet_256_L.ckpt -o {bundle}"
        )
    return Outcome(facts, "\n".join(lines))


def _generated(
    generator: Generator,
    classes: list[int],
    seed: int,
    settings: Mapping[str, Any],
    batch_size: int,
) -> NDArray[np.int32]:
    """Token ids of all images, with a bar that shows rows of tokens."""
    rows, _ = generator.grid
    uniforms = generator.draw(len(classes), seed)
    images = []
    with progress_bar("rows of tokens", rows * len(classes)) as advance:
        for first in range(0, len(classes), batch_size):
            part = slice(first, first + batch_size)
            made = []
            for row in generator.stream(classes[part], uniforms=uniforms[part], **settings):
                made.append(row)
                advance(len(row))
            images.append(np.stack(made, axis=1))
    return np.concatenate(images)


def _image_names(classes: list[int]) -> tuple[str, ...]:
    """Names such as 207-0 and 207-1, by class and number."""
    seen: Counter[int] = Counter()
    names = []
    for one in classes:
        names.append(f"{one}-{seen[one]}")
        seen[one] += 1
    return tuple(names)


def _numbers(option: str, text: str, kind: Callable[[str], Any]) -> list[Any]:
    """The numbers of a list such as "207,88".

    Raises:
        InputError: It is no such list.
    """
    try:
        return [kind(number) for number in text.split(",")]
    except ValueError:
        expected = "whole numbers, as 207,88" if kind is int else "two numbers, as 1.9,2.0"
        raise InputError(f"{option} can't be read", found=text, expected=expected) from None


def _pair(name: str, text: str | None) -> tuple[Any, ...] | None:
    if text is None:
        return None
    kind = int if name == "top_k" else float
    return tuple(_numbers(f"--{name.replace('_', '-')}", text, kind))
