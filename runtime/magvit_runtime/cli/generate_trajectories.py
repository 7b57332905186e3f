"""`magvit generate-trajectories`: labelled trajectories of known kinds, for a first try."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.clips.generated import (
    COMMON_KINDS,
    KINDS,
    GeneratedTrajectory,
    GenerationOptions,
    generate_trajectories,
    write_generated,
)


def generate(
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    kinds: str = ",".join(COMMON_KINDS),
    count: int = 100,
    samples: int = 32,
    noise: float = 0.01,
    dimensions: Literal[2, 3] = 2,
    seed: int = 0,
) -> Outcome:
    """Generates labelled trajectories, the same file on every machine.

    Args:
        output: .csv or .parquet: a row a point, with columns id, t, x, y, z and label; or .json:
            objects {"id", "class", "positions": [[x, y, z], …]}.
        kinds: Classes, separated by commas: linear, circular, helical, parabolic, spiral,
            lissajous, random-walk, spline; or all.
        count: Trajectories of each kind.
        samples: Points of each.
        noise: Standard deviation of what is added to each coordinate; curves are 1 to 2 long.
        dimensions: 2 for x and y; 3 for x, y and z, which points up.
        seed: Chooses all random numbers.
    """
    names = tuple(KINDS) if kinds == "all" else tuple(name.strip() for name in kinds.split(","))
    options = GenerationOptions(names, count, samples, noise, dimensions, seed)
    total = len(options.kinds) * options.count
    with progress_bar("trajectories", total) as advance:

        def counted() -> Iterator[GeneratedTrajectory]:
            for trajectory in generate_trajectories(options):
                yield trajectory
                advance(1)

        write_generated(output, counted(), options.dimensions)
    facts = {
        "output": str(output),
        "kinds": list(options.kinds),
        "trajectories": total,
        "samples": options.samples,
        "dimensions": options.dimensions,
        "seed": options.seed,
    }
    return Outcome(facts, f"{total} trajectories of {len(options.kinds)} kinds -> {output}")
