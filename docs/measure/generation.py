"""How fast an autoregressive model generates, beside PyTorch's own loop, and how well it agrees.

    python docs/measure/generation.py [--model open-magvit2-ar-b] [--rows 4] [--rounds 3] [--agree]
    python docs/measure/generation.py --smoke

Exports seeded weights in float32, in float16 and with weights of 8 bits. Then it makes the first
rows of tokens of one image, with guidance, in turn by PyTorch's eager loop with a cache of keys and
values (the same sampling, two threads) and by each of our graphs; the ratio is that of the medians
of a token's time. With `--agree` it compares teacher-forced logits of generated tokens with those
of PyTorch in float32: share of equal arg-maxima, and Kullback-Leibler divergence.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from magvit_export.catalog import CatalogEntry, find_model
from magvit_export.exporting import export_model
from magvit_export.families.autoregressive.blocks import Cache
from magvit_export.families.autoregressive.config import AutoregressiveConfig
from magvit_export.families.autoregressive.transformer import AutoregressiveModel
from magvit_export.families.family import find_family
from magvit_export.loading import load_model
from magvit_runtime import Generator
from magvit_runtime.agreement.logits import LogitAccumulator
from magvit_runtime.benchmarks.machine import describe_machine
from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.sampling import Sampling, choose

THREADS = 2
CLASS = 207
WAYS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
TINY = AutoregressiveConfig(
    block_size=16, spatial_n_layer=2, factorized_n_layer=1, dim=64, cond_dim=64, n_head=4
)


def eager_rows(
    model: AutoregressiveModel, uniforms: NDArray[np.float64], settings: Sampling
) -> Iterator[NDArray[np.int32]]:
    """One guided image of `CLASS`, row by row, in PyTorch with a cache: [columns] each."""
    config, transformer = model.config, model.transformer
    classes = torch.tensor([CLASS, config.class_num])
    shape = (2, config.n_head, config.block_size, config.head_dim)
    caches = [Cache(torch.zeros(shape), torch.zeros(shape)) for _ in transformer.spatial_blocks]
    before, row = torch.zeros((2, 1), dtype=torch.int64), []
    for position in range(config.block_size):
        with torch.inference_mode():
            # Only the rows that are filled are read.
            seen = [Cache(c.keys[:, :, :position], c.values[:, :, :position]) for c in caches]
            at = torch.tensor(position)
            hidden, keys, values = transformer.context(classes, before, at, seen)
            for cache, k, v in zip(caches, keys, values, strict=True):
                cache.keys[:, :, position], cache.values[:, :, position] = k[:, :, 0], v[:, :, 0]
            chosen = torch.zeros(2, dtype=torch.int64)
            parts = []
            for part in range(2):
                logits = transformer.subtokens(hidden[:, 0], chosen)[part].numpy()
                number = uniforms[position, part, None]
                value = choose(logits[:1], logits[1:], number, settings, part)
                parts.append(int(value[0]))
                chosen = torch.full((2,), parts[-1])
        token = parts[0] + (parts[1] << config.factorized_bits[0])
        before = torch.full((2, 1), token)
        row.append(token)
        if len(row) == config.side:
            yield np.array(row, np.int32)
            row = []


def seconds_a_token(rows: Iterator[NDArray[np.int32]], count: int) -> tuple[float, list[int]]:
    """Mean time of a token of the first rows, and the tokens."""
    begin = time.perf_counter()
    made = [token for _ in range(count) for token in next(rows).ravel().tolist()]
    return (time.perf_counter() - begin) / len(made), made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="open-magvit2-ar-b")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--agree", action="store_true")
    parser.add_argument("--folder", type=Path, help="keeps the bundle there, or finds it")
    parser.add_argument("--smoke", action="store_true", help="a tiny model")
    options = parser.parse_args()
    entry = find_model(options.model)
    if options.smoke:
        entry = replace(entry, config=TINY)
        options.rows, options.rounds, options.agree = 2, 1, True
    torch.set_num_threads(THREADS)
    here = describe_machine()
    print(f"{entry.name}, {here.cpu}, {here.cpus} CPUs, {here.system}")
    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "bundle"
        exported(entry, folder)
        model = reference(entry)
        compare_speed(model, entry, folder, options.rows, options.rounds)
        if options.agree:
            compare_logits(model, folder)


def exported(entry: CatalogEntry, folder: Path) -> None:
    """A bundle with the graphs of both ways."""
    for precision in WAYS:
        if not list(folder.glob(f"context.{precision}.onnx")):
            export_model(entry, folder, weights="seeded", precision=precision)


def reference(entry: CatalogEntry) -> AutoregressiveModel:
    """The model in PyTorch, in float32."""
    family = find_family(entry.family)
    module = load_model(family, entry, entry.config, [*family.roles], "seeded", None).module
    assert isinstance(module, AutoregressiveModel)
    return module


def compare_speed(
    model: AutoregressiveModel, entry: CatalogEntry, folder: Path, rows: int, rounds: int
) -> None:
    uniforms = np.random.default_rng(1).random((1, model.config.block_size, 2))
    settings = entry.sampling or Sampling()
    ways: dict[str, Callable[[], Iterator[NDArray[np.int32]]]] = {
        "PyTorch eager": lambda: eager_rows(model, uniforms[0], settings)
    }
    generators = {way: Generator.open(folder, precision=way, threads=THREADS) for way in WAYS}
    for way, generator in generators.items():
        ways[way] = lambda generator=generator: generator.stream([CLASS], uniforms=uniforms)
    times: dict[str, list[float]] = {name: [] for name in ways}
    tokens: dict[str, list[int]] = {}
    for name in [*ways] * rounds:
        seconds, tokens[name] = seconds_a_token(ways[name](), rows)
        times[name].append(seconds)
    first = median(times["PyTorch eager"])
    for name, own in times.items():
        same = np.mean(np.array(tokens[name]) == tokens["PyTorch eager"])
        print(
            f"{name}: {median(own) * 1e3:.1f} ms a token ({min(own) * 1e3:.1f} to "
            f"{max(own) * 1e3:.1f}), {median(own) / first:.2f} of PyTorch; "
            f"{same:.0%} of {len(tokens[name])} sampled tokens are PyTorch's"
        )
    for generator in generators.values():
        generator.close()


def compare_logits(model: AutoregressiveModel, folder: Path) -> None:
    config = model.config
    classes = [CLASS % config.class_num]
    for way in WAYS:
        with Generator.open(folder, precision=way, threads=THREADS) as generator:
            rng = np.random.default_rng(2)
            most = 2 ** sum(config.factorized_bits)
            ids = rng.integers(0, most, (1, *generator.grid)).astype(np.int32)
            ours = generator.logits(classes, ids)
            with torch.inference_mode():
                flat = torch.from_numpy(ids.reshape(1, -1)).long()
                theirs = model.logits(torch.tensor(classes), flat)
            for part, name in enumerate(("first part", "second part")):
                measured = LogitAccumulator()
                measured.add(ours[part], theirs[part].numpy())
                print(f"{way}, {name}: {measured.result().summary}")


if __name__ == "__main__":
    main()
