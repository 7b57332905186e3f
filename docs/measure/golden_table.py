"""Prints docs/parity.md's table: our latents and ids against the golden values, case by case.

python docs/measure/golden_table.py            # the small video model
python docs/measure/golden_table.py --full     # also the released size: 4 GB of disk, minutes
python docs/measure/golden_table.py --smoke    # one case, one way
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import numpy as np
from parity.encoders import Encoders
from parity.suite import MODELS, WAYS, Model, Way, why_not_here

from magvit_runtime.agreement.signs import compare_latents


def row(encoders: Encoders, model: Model, case: str, way: Way) -> str:
    latents, ids = encoders.encode(model, "ema", way, model.frames(case))
    found = compare_latents(latents, model.value(case, "z_ema"), ids)
    changed = (ids != model.value(case, "ids_ema")).sum()
    return (
        f"| {model.name} {case} | {way.name} | {found.max_latent_error:.1e} | {found.rms:.1e} | "
        f"{found.flipped_bits} / {found.bits} | {changed} / {np.size(ids)} |"
    )


def main() -> None:
    names = ("video_small", "video_full") if "--full" in sys.argv else ("video_small",)
    print("| case | way | max abs dz | rms(e)/σ_z | bits flipped | ids changed |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        encoders = Encoders(Path(folder))
        for model in (model for model in MODELS if model.name in names):
            rows = [
                (case, way) for case in model.cases("ema") for way in WAYS if not why_not_here(way)
            ]
            for case, way in rows[:1] if "--smoke" in sys.argv else rows:
                print(row(encoders, model, case, way), flush=True)


if __name__ == "__main__":
    main()
