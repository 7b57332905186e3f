"""`magvit evaluate`: what tokens are worth, in figures with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from cyclopts import App, Parameter
from numpy.typing import NDArray

from magvit_export.cli.evaluate_classes import classes
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import BundleArgument
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.cli.space import DEFAULT_SPACE, SpaceOptions, check_space, with_space
from magvit_runtime.cli.videos import cutting_for, is_video, with_video
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import DEFAULT_STYLE, ReadReport, StyleOptions
from magvit_runtime.clips.video import Tail
from magvit_runtime.clips.video_frames import VideoReport
from magvit_runtime.files.outputs import check_outputs
from magvit_runtime.hardware.packages import is_installed, missing_package
from magvit_runtime.types import Precision

if TYPE_CHECKING:
    from magvit_runtime.evaluation.reconstruction import Measure, Reconstruction

evaluate = App(name="evaluate", help="Measures what tokens are worth.")
evaluate.command(classes)

SHEET_CLIPS = 8


@evaluate.command
def reconstruction(
    bundle: BundleArgument,
    clips: Path,
    *,
    beside: list[Path] | None = None,
    style: Annotated[StyleOptions, Parameter(name="*")] = DEFAULT_STYLE,
    space: Annotated[SpaceOptions, Parameter(name="*")] = DEFAULT_SPACE,
    tail: Tail = "drop",
    backend: str = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
    batch_size: int = 1,
    lpips: Path | None = None,
    fid: Path | None = None,
    fvd: Path | None = None,
    sheet: Path | None = None,
) -> Outcome:
    """Encodes and decodes clips, and says how near they come back: PSNR, SSIM, codes used.

    docs/evaluation.md says what each figure is. Intervals are of 95 %, over clips.

    Args:
        bundle: Directory of a model with an encoder and a decoder.
        clips: Trajectories, uint8 frames (.npy), or a video; as for `magvit tokenize`.
        beside: Further bundles to set beside the first; may be given several times.
        style: How trajectories are drawn. A video must have the height and width.
        space: What the columns of trajectories are, and what sees those in space.
        tail: What becomes of a video's last frames that fill no clip; as for `magvit tokenize`.
        backend: What runs the models; auto takes the best of this machine.
        precision: Which of a bundle's graphs; the most precise by default.
        threads: CPU threads; the backend's own choice by default.
        batch_size: Clips that run at once.
        lpips: TorchScript file of an LPIPS network, for LPIPS.
        fid: TorchScript file of Inception, for rFID over frames.
        fvd: TorchScript file of I3D, for rFVD.
        sheet: A PNG to write: clips, what came back, and the difference, of the first bundle.
    """
    from magvit_runtime.clips.comparison_sheet import write_comparison_sheet
    from magvit_runtime.detokenizer import Detokenizer
    from magvit_runtime.evaluation.reconstruction import evaluate_reconstruction
    from magvit_runtime.evaluation.tables import reconstruction_table
    from magvit_runtime.tokenizer import Tokenizer

    check_outputs(sheet, inputs=(bundle, clips, *(beside or ()), lpips, fid, fvd, space.camera))
    check_space(clips, space)
    cameras = space.cameras()
    results: list[Reconstruction] = []
    shown: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []

    def look(original: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> None:
        """Keeps the first clips of the first bundle for the sheet."""
        if sheet is not None and not results and len(shown) < SHEET_CLIPS:
            shown.append((original, decoded))

    bundles = [bundle, *(beside or ())]
    for path in bundles:
        report, video = ReadReport(), VideoReport()
        with (
            Tokenizer.open(
                path, backend=backend, precision=precision, threads=threads, batch_size=batch_size
            ) as tokenizer,
            Detokenizer.open(
                path, backend=backend, precision=precision, threads=threads, batch_size=batch_size
            ) as detokenizer,
            progress_bar(f"clips of {path}") as advance,
        ):
            cutting = cutting_for(tail, tokenizer)
            batches = read_clips(
                clips,
                style,
                report,
                batch_size,
                cutting=cutting,
                video_report=video,
                positions=space.positions or "auto",
                cameras=cameras,
            )
            measures = _measures(lpips, fid, fvd)
            results.append(
                evaluate_reconstruction(tokenizer, detokenizer, batches, measures, look, advance)
            )
    written = ""
    if sheet is not None:
        originals, decoded = zip(*shown, strict=True)
        write_comparison_sheet(
            sheet, np.concatenate(originals)[:SHEET_CLIPS], np.concatenate(decoded)[:SHEET_CLIPS]
        )
        written = f"\n{sheet} written"
    facts = {
        "clips": str(clips),
        "bundles": [
            {"bundle": str(path)} | msgspec.to_builtins(result)
            for path, result in zip(bundles, results, strict=True)
        ],
    }
    text = reconstruction_table([str(path) for path in bundles], results) + written
    if report.counts:
        text += "\n" + report.summary()
    outcome = with_space(Outcome(facts, text), cameras, report)
    return with_video(outcome, tail, video) if is_video(clips) else outcome


def _measures(lpips: Path | None, fid: Path | None, fvd: Path | None) -> list[Measure]:
    if (lpips or fid or fvd) and not is_installed("torchmetrics"):
        raise missing_package("torchmetrics", "LPIPS, rFID or rFVD")
    measures: list[Measure] = []
    if lpips is not None:
        from magvit_export.evaluation.lpips import Lpips

        measures.append(Lpips(lpips))
    for name, network in (("rFID", fid), ("rFVD", fvd)):
        if network is not None:
            from magvit_export.evaluation.frechet import FrechetDistance

            measures.append(FrechetDistance(name, network))
    return measures
