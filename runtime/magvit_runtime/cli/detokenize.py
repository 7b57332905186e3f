"""`magvit detokenize`: token ids to pictures, an array or a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import BundleArgument, PlaceArgument
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.detokenizer import Detokenizer
from magvit_runtime.errors import InputError
from magvit_runtime.files.outputs import check_outputs
from magvit_runtime.results.clip_files import clip_writer, joined_writer
from magvit_runtime.results.joined_videos import JoinedVideo, joined_videos
from magvit_runtime.results.token_files import TokenFileInfo, TokenTable, read_tokens

DEFAULT_RATE = 25.0


def detokenize(
    bundle: BundleArgument,
    tokens: PlaceArgument,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    rate: float | None = None,
    backend: str = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
    batch_size: int = 1,
) -> Outcome:
    """Turns token ids back into frames. The clips of one video become one video again.

    Args:
        bundle: Directory of the exported model, or hf://OWNER/NAME@REVISION on the hub.
        tokens: Token file (.parquet, .npz) of `magvit tokenize`, or the folder that it wrote, or
            the address of one.
        output: A folder for PNG files; .npy or .npz for one array; or a video (.mkv without any
            loss; .mp4, .m4v, .mov, .avi, .webm), in which all clips follow one another.
        rate: Frames a second of a video; by default that of the video which was tokenized, or 25.
        backend: What runs the model; auto takes the best of this machine.
        precision: Which of the bundle's decoders; the most precise by default.
        threads: CPU threads; the backend's own choice by default.
        batch_size: Clips that run at once.
    """
    check_outputs(output, inputs=(bundle, tokens if isinstance(tokens, Path) else None))
    table = read_tokens(tokens)
    if not table.ids:
        raise InputError(f"{tokens} holds no clip")
    with Detokenizer.open(
        bundle, backend=backend, precision=precision, threads=threads, batch_size=batch_size
    ) as detokenizer:
        opened = detokenizer.bundle
        _check_quantizer(tokens, table.info, opened)
        videos = joined_videos(tokens, table, opened.tokens.temporal_stride)
        if videos:
            frames = _write_videos(detokenizer, table, videos, output, rate, batch_size)
        else:
            frames = _write_clips(detokenizer, table, output, rate, batch_size)
        capabilities = detokenizer.capabilities
    label = weights_label(opened)
    warnings = [one for one in (_other_weights(table.info, opened), _missing(videos)) if one]
    facts = {
        "clips": len(table.ids),
        "frames": frames,
        "videos": {video.name: video.frames for video in videos},
        "output": str(output),
        "weights": label,
        "backend": capabilities.backend,
        "precision": capabilities.precision,
        "reason": capabilities.reason,
        "warning": "; ".join(warnings) or None,
    }
    lines = [
        f"{len(table.ids)} clips, {frames} frames -> {output}",
        f"{opened.manifest.model}, {label}; {capabilities.backend} {capabilities.version} on "
        f"{capabilities.device} ({capabilities.reason})",
    ]
    return Outcome(facts, "\n".join([*lines, *(f"warning: {warning}" for warning in warnings)]))


def _write_clips(
    detokenizer: Detokenizer, table: TokenTable, output: Path, rate: float | None, batch_size: int
) -> int:
    """Writes clips one by one; returns the number of frames."""
    frames = 0
    with (
        clip_writer(output, len(table.ids), DEFAULT_RATE if rate is None else rate) as writer,
        progress_bar("clips", len(table.ids)) as advance,
    ):
        for first in range(0, len(table.ids), batch_size):
            part = slice(first, first + batch_size)
            clips = detokenizer(table.tokens[part])
            writer.write(table.ids[part], clips)
            frames += clips[..., 0, 0, 0].size
            advance(len(clips))
    return frames


def _write_videos(
    detokenizer: Detokenizer,
    table: TokenTable,
    videos: tuple[JoinedVideo, ...],
    output: Path,
    rate: float | None,
    batch_size: int,
) -> int:
    """Writes videos whose clips follow one another; returns the number of frames."""
    if rate is None:
        rate = videos[0].rate or DEFAULT_RATE
    lengths = {video.name: video.frames for video in videos}
    with (
        joined_writer(output, lengths, rate) as writer,
        progress_bar("clips", len(table.ids)) as advance,
    ):
        for video in videos:
            for batch in video.batches(batch_size):
                clips = detokenizer(video.tokens(table, batch))
                for i, clip in zip(batch, clips, strict=True):
                    writer.write((video.name,), video.own(clip, i)[None])
                advance(len(clips))
    return sum(lengths.values())


def _missing(videos: tuple[JoinedVideo, ...]) -> str | None:
    missing = sum(video.missing for video in videos)
    if missing == 0:
        return None
    return (
        f"{missing} frames of the video are missing: a decoder gives back clips of 1 frame and a "
        f"multiple of the model's stride of time, and shortens others"
    )


def _check_quantizer(path: Path | str, info: TokenFileInfo, bundle: Bundle) -> None:
    ours = bundle.tokens.quantizer
    if info.quantizer != ours:
        raise InputError(
            f"the tokens in {path} are of another vocabulary than those of {bundle.path}",
            found=f"{msgspec.to_builtins(info.quantizer)}, of {info.model}",
            expected=f"{msgspec.to_builtins(ours)}, of {bundle.manifest.model}",
            mend="decode them with a bundle of the model that made them",
        )


def _other_weights(info: TokenFileInfo, bundle: Bundle) -> str | None:
    """What to say where other weights made the tokens: these ids may mean other things."""
    weights = bundle.manifest.component.weights
    same_file = info.weights_sha256 == weights.sha256
    same_seed = weights.sha256 is not None or info.weights == weights.name
    if same_file and same_seed:
        return None
    return (
        f"these tokens were made by {info.model} with the weights {info.weights}; decoded with "
        f"other weights they may show something else"
    )
