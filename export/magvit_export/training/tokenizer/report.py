"""The HTML report of a run: what it gives, its curves, and how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from magvit_export.training.tokenizer.records import HeldOutRecord, RunRecord, StepRecord
from magvit_runtime.reports.figures import curves
from magvit_runtime.reports.page import Cell, Page, Section, Table, render_page

# Points of a curve: each is the mean of as many steps as that takes.
_POINTS = 200
_TERMS = {
    "reconstruction": "reconstruction (lower is better)",
    "commitment": "commitment (lower is better)",
    "certainty": "certainty, bits (lower is better)",
    "variety": "variety, bits (higher is better)",
}


def training_report(
    run: RunRecord,
    steps: Sequence[StepRecord],
    checks: Sequence[HeldOutRecord],
    final: HeldOutRecord | None,
) -> str:
    """HTML of a run's report, in one piece.

    Args:
        run: The run.
        steps: All steps so far.
        checks: Held-out figures so far, at least one.
        final: Those of all held-out clips, once the run is complete.
    """
    done = steps[-1].step if steps else 0
    last = final or checks[-1]
    is_better = all(last.psnr[name] > last.ground_psnr[name] for name in last.psnr)
    facts = {
        "model": run.model,
        "steps": f"{done:,} of {run.options.steps:,}",
        "stages": run.options.stages,
        "command": run.command,
        "recorded movements": f"{run.data}: {run.trained_on} to train on, {run.held_out} held out",
        "their sha256": run.data_sha256,
        "seed": str(run.options.seed),
        "machine": f"{run.machine}, {run.options.threads} threads, {run.options.precision}",
        "software": ", ".join(f"{name} {version}" for name, version in run.software.items()),
        "begun": run.begun,
        "time of the steps": f"{sum(step.seconds for step in steps) / 3600:.2f} h",
    }
    words = ", ".join(f"{value:.1f} dB on {name} clips" for name, value in last.psnr.items())
    page = Page(
        title=f"Training of {run.model}",
        verdict=Cell(words, "good" if is_better else "bad"),
        facts=facts,
        sections=list(_sections(steps, checks, final)),
    )
    return render_page(page)


def _sections(
    steps: Sequence[StepRecord], checks: Sequence[HeldOutRecord], final: HeldOutRecord | None
) -> Iterator[Section]:
    shown = [*checks, *([] if final is None else [final])]
    at = [float(check.step) for check in checks]
    sources = list(checks[0].psnr)
    yield Section(
        "Held-out clips",
        "Clips that are never trained on, encoded and decoded by the moving average of the weights "
        "as it is written, in float16. Ground is the PSNR of pictures of the background alone: "
        "what is not above it shows nothing. The last row of a complete run is of more clips.",
        Table(
            ("Steps", "Size", "Clips", *(f"PSNR, {name}" for name in sources), "Ground"),
            [
                [
                    _number(f"{check.step:,}"),
                    _number(str(check.size)),
                    _number(str(sum(check.clips.values()))),
                    *(_number(f"{check.psnr[name]:.2f}") for name in sources),
                    _number(", ".join(f"{value:.2f}" for value in check.ground_psnr.values())),
                ]
                for check in shown
            ],
        ),
        curves(
            "psnr",
            at,
            {name: [check.psnr[name] for check in checks] for name in sources}
            | {
                f"ground, {name}": [check.ground_psnr[name] for check in checks] for name in sources
            },
            x_title="steps",
            y_title="PSNR, dB",
        ),
    )
    yield Section(
        "Tokens",
        "Use of the codebook in these clips. Drawn tokens are those in whose place anything is "
        "drawn. Tokens have collapsed where the entropy of the drawn ones is near 0.",
        Table(
            (
                "Steps",
                "Different ids",
                "Entropy, bits",
                "Drawn share",
                "Different drawn ids",
                "Entropy of drawn, bits",
                "Different ids of ground",
                "Constant bits",
            ),
            [
                [
                    _number(f"{check.step:,}"),
                    _number(f"{check.codes:,}"),
                    _number(f"{check.entropy:.2f}"),
                    _number(f"{check.drawn_share:.1%}"),
                    _number(f"{check.drawn_codes:,}"),
                    _number(f"{check.drawn_entropy:.2f}"),
                    _number(f"{check.ground_codes:,}"),
                    _number(str(check.constant_bits)),
                ]
                for check in shown
            ],
        ),
        curves(
            "entropy",
            at,
            {
                "all tokens": [check.entropy for check in checks],
                "drawn tokens": [check.drawn_entropy for check in checks],
            },
            x_title="steps",
            y_title="entropy, bits",
        ),
    )
    if steps:
        yield from _loss_sections(steps)


def _loss_sections(steps: Sequence[StepRecord]) -> Iterator[Section]:
    parts = [steps[i : i + _width(steps)] for i in range(0, len(steps), _width(steps))]
    at = [float(part[-1].step) for part in parts]
    text = f"Each point is the mean of {_width(steps)} steps. docs/tokenizer.md explains the terms."
    for name, title in {"loss": "weighed sum", **_TERMS}.items():
        values = [sum(getattr(step, name) for step in part) / len(part) for part in parts]
        yield Section(
            f"Loss: {title}",
            text,
            figure=curves(name, at, {name: values}, x_title="steps", y_title=name),
        )


def _width(steps: Sequence[StepRecord]) -> int:
    return max(1, -(-len(steps) // _POINTS))


def _number(text: str) -> Cell:
    return Cell(text, number=True)
