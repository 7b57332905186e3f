"""`magvit demo`: the main job on real trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.progress import progress_bar


def demo(*, output: Annotated[Path, Parameter(alias="-o")], clips: int | None = None) -> Outcome:
    """Turns real trajectories into tokens and classes, from export to contact sheet.

    The model is a small preset with generated weights, so nothing is downloaded; the trajectories
    are the UCI Libras Movement data (CC BY 4.0), which ship with the package.

    Args:
        output: Folder for everything that is written.
        clips: How many of the 330 trajectories; all by default.
    """
    from magvit_export.demo import run_demo

    with progress_bar("clips", clips or 330) as advance:
        result = run_demo(output, clips=clips, advance=advance)
    lines = [
        f"{result.clips} hand movements (UCI Libras, CC BY 4.0) -> 5x16x16 tokens each, "
        f"{result.distinct_ids:.0f} distinct ids a clip",
        f"model: {result.weights}",
        "",
        f"accuracy on {result.held_out} held-out clips",
        f"  classifier on tokens          {result.accuracy:6.1%}",
        f"  1-nearest-neighbour on x, y   {result.nearest_neighbor:6.1%}",
        f"  chance                        {result.chance:6.1%}",
        "",
        *(f"{step:20} {seconds:7.1f} s" for step, seconds in result.seconds.items()),
        "",
        *(f"{what:20} {path}" for what, path in result.files.items()),
    ]
    facts = msgspec.to_builtins(result, enc_hook=str)
    return Outcome(facts, "\n".join(lines))
