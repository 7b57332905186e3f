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
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.detokenizer import Detokenizer
from magvit_runtime.errors import InputError
from magvit_runtime.files.outputs import check_outputs
from magvit_runtime.results.clip_files import clip_writer
from magvit_runtime.results.token_files import TokenFileInfo, read_tokens

DEFAULT_RATE = 25.0


def detokenize(
    bundle: Path,
    tokens: Path,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    rate: float = DEFAULT_RATE,
    backend: str = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
    batch_size: int = 1,
) -> Outcome:
    """Turns token ids back into frames.

    Args:
        bundle: Directory of the exported model.
        tokens: Token file (.parquet, .npz) of `magvit tokenize`.
        output: A folder for PNG files; .npy or .npz for one array; or a video (.mkv without any
            loss; .mp4, .mov, .avi, .webm), in which all clips follow one another.
        rate: Frames a second of a video.
        backend: What runs the model; auto takes the best of this machine.
        precision: Which of the bundle's decoders; the most precise by default.
        threads: CPU threads; the backend's own choice by default.
        batch_size: Clips that run at once.
    """
    check_outputs(output, inputs=(bundle, tokens))
    table = read_tokens(tokens)
    if not table.ids:
        raise InputError(f"{tokens} holds no clip")
    frames = 0
    with Detokenizer.open(
        bundle, backend=backend, precision=precision, threads=threads, batch_size=batch_size
    ) as detokenizer:
        opened = detokenizer.bundle
        _check_quantizer(tokens, table.info, opened)
        with (
            clip_writer(output, len(table.ids), rate) as writer,
            progress_bar("clips", len(table.ids)) as advance,
        ):
            for first in range(0, len(table.ids), batch_size):
                part = slice(first, first + batch_size)
                clips = detokenizer(table.tokens[part])
                writer.write(table.ids[part], clips)
                frames += clips[..., 0, 0, 0].size
                advance(len(clips))
        capabilities = detokenizer.capabilities
    label = weights_label(opened)
    warning = _other_weights(table.info, opened)
    facts = {
        "clips": len(table.ids),
        "frames": frames,
        "output": str(output),
        "weights": label,
        "backend": capabilities.backend,
        "precision": capabilities.precision,
        "reason": capabilities.reason,
        "warning": warning,
    }
    lines = [
        f"{len(table.ids)} clips, {frames} frames -> {output}",
        f"{opened.manifest.model}, {label}; {capabilities.backend} {capabilities.version} on "
        f"{capabilities.device} ({capabilities.reason})",
    ]
    return Outcome(facts, "\n".join([*lines, *([f"warning: {warning}"] if warning else [])]))


def _check_quantizer(path: Path, info: TokenFileInfo, bundle: Bundle) -> None:
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
