"""MODEL_CARD.md: what weights were made of, how, and what they give."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

from magvit_export.training.tokenizer.records import (
    REPORT_FILE,
    STEPS_FILE,
    WEIGHTS_FILE,
    HeldOutRecord,
    RunRecord,
    StepRecord,
)
from magvit_runtime.clips.generated import KINDS

_CHECKS_SHOWN = 12


def model_card(
    run: RunRecord,
    steps: Sequence[StepRecord],
    checks: Sequence[HeldOutRecord],
    final: HeldOutRecord | None,
) -> str:
    """Markdown of a run's model card.

    Args:
        run: The run.
        steps: All steps so far.
        checks: Held-out figures so far, at least one.
        final: Those of all held-out clips, once the run is complete.
    """
    options = run.options
    done = steps[-1].step if steps else 0
    hours = sum(step.seconds for step in steps) / 3600
    last = final or checks[-1]
    stages = ", then ".join(
        f"{stage.steps} steps at {options.frames}x{stage.size}x{stage.size}"
        for stage in options.plan
    )
    compiled = ", compiled" if options.compile else ""
    every = -(-len(checks) // _CHECKS_SHOWN)
    shown = [*checks[:: max(1, every)], *([] if final is None else [final])]
    head = (
        "steps",
        "size",
        "clips",
        *(f"PSNR {name} (ground)" for name in last.psnr),
        "ids",
        "entropy",
        "drawn ids",
        "entropy of drawn",
        "constant bits",
    )
    parts = [
        f"# {run.model}, trained on trajectories",
        "An encoder, lookup-free quantizer and decoder for clips of drawn trajectories: "
        f"`{WEIGHTS_FILE}` holds the moving average of the weights as float16, for "
        f"`magvit export {run.model} --weights {WEIGHTS_FILE}`. "
        + (
            "The run is complete."
            if final
            else f"The run is not complete: {done} of {options.steps} steps."
        ),
        "It knows lines on a flat ground as `magvit render` draws them. It has seen no photograph, "
        "no video and no person, and is of no use for such.",
        "## Data",
        f"- {run.data}: {run.trained_on} are trained on and {run.held_out} held out, by class with "
        "seed 0, which is the split that `magvit train classifier` makes by default. sha256 "
        f"{run.data_sha256}. Each time one is drawn, it is turned, scaled, sheared and shaken a "
        "little.",
        f"- As many generated trajectories, a new one each time: {', '.join(KINDS)}; 32 points, "
        "noise 0.01 (`magvit generate-trajectories`). Others of the same kinds are held out.",
        "## Training",
        f"```\n{run.command}\n```",
        f"- Start: {run.start_weights}"
        + ("." if run.start_sha256 is None else f", sha256 {run.start_sha256}."),
        f"- {stages}; {options.batch} clips a step. {done} steps are done and took {hours:.2f} "
        "hours.",
        f"- AdamW: learning rate {options.learning_rate:g} after {options.warm_up} steps, half a "
        f"cosine a stage; gradients cut at {options.clip_norm:g}; weight decay "
        f"{options.weight_decay:g}. Moving average {options.decay:g}.",
        f"- Losses: reconstruction (drawn share {options.drawn:g}, absolute share "
        f"{options.absolute:g}) + {options.commitment:g} commitment + {options.certainty:g} "
        f"certainty - {options.variety:g} variety; docs/tokenizer.md explains them.",
        f"- Seed {options.seed}; {options.precision}{compiled}; {run.machine}, {options.threads} "
        "threads; "
        f"{', '.join(f'{name} {version}' for name, version in run.software.items())}; begun "
        f"{run.begun}.",
        "## Held-out figures",
        "PSNR in dB and, in brackets, that of pictures of the background alone; entropies in bits. "
        f"The last row of a complete run is of more clips. `{REPORT_FILE}` and "
        f"`{STEPS_FILE}` have the curves.",
        "\n".join([_row(head), _row(["---"] * len(head)), *(_row(_cells(one)) for one in shown)]),
    ]
    return "\n\n".join(map(_wrapped, parts)) + "\n"


def _wrapped(part: str) -> str:
    """A paragraph in lines of 100 signs; code and tables stay as they are."""
    if part[0] in "`|":
        return part
    indent = "  " if part.startswith("- ") else ""
    return fill(part, 100, subsequent_indent=indent, break_on_hyphens=False)


def _cells(check: HeldOutRecord) -> list[str]:
    return [
        str(check.step),
        str(check.size),
        str(sum(check.clips.values())),
        *(f"{check.psnr[name]:.2f} ({check.ground_psnr[name]:.2f})" for name in check.psnr),
        str(check.codes),
        f"{check.entropy:.2f}",
        str(check.drawn_codes),
        f"{check.drawn_entropy:.2f}",
        str(check.constant_bits),
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
