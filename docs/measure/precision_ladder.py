"""Prints docs/parity.md's precision ladder: latents of Libras clips at each rung against float64.

python docs/measure/precision_ladder.py           # trajectory-small, 12 clips
python docs/measure/precision_ladder.py --full    # the released size, 4 clips
python docs/measure/precision_ladder.py --clips 8
python docs/measure/precision_ladder.py --smoke   # two tiny clips: no figure

Weights are seeded. All rungs but float32 and float64 are simulated (simulated_precision.py).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import numpy as np
import torch
from numpy.typing import NDArray
from parity.simulated_precision import RUNGS

from magvit_export.catalog import find_model
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.families.magvit.encoder import Encoder
from magvit_export.families.magvit.family import FAMILY
from magvit_export.families.magvit.tokenizer import MagvitTokenizer, encode_frames
from magvit_export.libras import Libras, load_libras
from magvit_export.loading import load_model
from magvit_runtime.agreement.intervals import Interval
from magvit_runtime.agreement.signs import SignAccumulator, SignAgreement
from magvit_runtime.clips.trajectories import DEFAULT_STYLE, Trajectory, render


def seeded_encoder(model: str, config: TokenizerConfig | None = None) -> Encoder:
    entry = find_model(model)
    loaded = load_model(FAMILY, entry, config or entry.config, ["encode"], "seeded", None)
    assert isinstance(loaded.module, MagvitTokenizer)
    return loaded.module.encoder


def encoder_at(rung: str, model: str) -> Encoder:
    encoder = seeded_encoder(model)
    RUNGS[rung](encoder)
    return encoder


def draw(data: Libras) -> NDArray[np.uint8]:
    """uint8 [N, 17, 128, 128, 3], in the usual style."""
    times = np.arange(data.xy.shape[1], dtype=np.float64)
    paths = [Trajectory(str(i), xy, times) for i, xy in enumerate(data.xy.astype(np.float64))]
    return render(paths, DEFAULT_STYLE)


def latents_of(encoder: Encoder, clip: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Latents [1, 18, 5, 16, 16] of one clip."""
    with torch.inference_mode():
        latents: NDArray[np.floating] = encode_frames(encoder, torch.from_numpy(clip[None])).numpy()
        return latents


def climb(model: str, clips: NDArray[np.uint8]) -> dict[str, SignAgreement]:
    """How each rung agrees with float64."""
    reference = seeded_encoder(model).double()
    expected = []
    for i, clip in enumerate(clips, 1):
        expected.append(latents_of(reference, clip))
        print(f"float64: clip {i} of {len(clips)}", file=sys.stderr)
    agreements = {}
    for rung in RUNGS:
        encoder = encoder_at(rung, model)
        accumulator = SignAccumulator()
        for clip, latents in zip(clips, expected, strict=True):
            accumulator.add(latents_of(encoder, clip), latents)
        agreements[rung] = accumulator.result()
        print(row(rung, agreements[rung]), file=sys.stderr)
    return agreements


def row(rung: str, agreement: SignAgreement) -> str:
    intervals = agreement.intervals
    assert intervals is not None
    cells = (
        rung,
        f"{agreement.rms:.1e} ({intervals.rms[0]:.1e}–{intervals.rms[1]:.1e})",
        f"{agreement.max:.1e}",
        percent(agreement.bit_flip_rate, intervals.bit_flip_rate),
        percent(agreement.token_change_rate, intervals.token_change_rate),
        f"{agreement.outside_margin}",
    )
    return f"| {' | '.join(cells)} |"


def percent(rate: float, interval: Interval) -> str:
    low, high = interval
    return f"{rate:.3%} ({low:.3%}–{high:.3%})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--clips", type=int, help="two at least, for the intervals")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    model = "open-magvit2-video-128" if options.full else "trajectory-small"
    count = options.clips or (4 if options.full else 12)
    data = load_libras().spread(count)
    clips = draw(Libras(data.xy[:count], data.labels[:count]))
    agreements = climb(model, clips[:2, :1, ::4, ::4] if options.smoke else clips)
    print("| rung | rms(e)/σ_z | max | bits flipped | tokens changed | outside the margin |")
    print("|---|---|---|---|---|---|")
    for rung, agreement in agreements.items():
        print(row(rung, agreement))


if __name__ == "__main__":
    main()
