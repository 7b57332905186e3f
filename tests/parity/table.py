"""Prints docs/parity.md's table: our latents and ids against the golden values, case by case.

python tests/parity/table.py            # the small video model
python tests/parity/table.py --full     # the released size too: 1 GB of disk, two minutes
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from seeded_checkpoints import ema_tensors, golden, model_shapes, write_checkpoint

from magvit_export.catalog import find_model
from magvit_export.checkpoint import load_weights
from magvit_export.exporting import export_tokenizer
from magvit_export.models import MagvitTokenizer, empty_tokenizer
from magvit_runtime import Tokenizer
from magvit_runtime.manifest import Precision

SMALL_CASES = ("t1_64x64", "t5_64x64", "t17_40x72", "t17_64x64")


def row(model: str, case: str, way: str, z: np.ndarray, ids: np.ndarray) -> str:
    arrays = golden(model)
    expected, expected_ids = arrays[f"{case}.z_ema"], arrays[f"{case}.ids_ema"]
    error = z.astype(np.float64) - expected
    flips = ((z > 0) != (expected > 0)).sum()
    return (
        f"| {model} {case} | {way} | {np.abs(error).max():.1e} | "
        f"{np.sqrt((error**2).mean()) / expected.std():.1e} | {flips} / {z.size} | "
        f"{(ids != expected_ids).sum()} / {ids.size} |"
    )


def compare(model: str, entry: str, cases: tuple[str, ...], folder: Path) -> None:
    config = find_model(entry).config
    assert config is not None
    shapes = model_shapes(config)
    # An encoder alone is a whole checkpoint to the exporter; the decoder's keys may be absent.
    encoder_shapes = {key: shape for key, shape in shapes.items() if key.startswith("encoder.")}
    checkpoint = write_checkpoint(folder / f"{model}.ckpt", ema_tensors(encoder_shapes))
    reference: MagvitTokenizer = empty_tokenizer(config)
    reference.load_state_dict(load_weights(checkpoint, shapes).state, assign=True, strict=False)
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    for precision in precisions:
        export_tokenizer(
            find_model(entry), folder / model, weights=str(checkpoint), precision=precision
        )
    for case in cases:
        clips = golden(model)[f"{case}.x"]
        with torch.inference_mode():
            frames = torch.from_numpy(clips)
            z, ids = reference.latents(frames).numpy(), reference.encode(frames).numpy()
        print(row(model, case, "PyTorch fp32", z, ids), flush=True)
        for precision in precisions:
            with Tokenizer.open(folder / model, precision=precision) as tokenizer:
                z, ids = tokenizer.latents(clips), tokenizer(clips)
            print(row(model, case, f"ONNX Runtime {precision}", z, ids), flush=True)


if __name__ == "__main__":
    print("| case | way | max abs dz | rms(e)/σ_z | bits flipped | ids changed |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        compare("video_small", "trajectory-small", SMALL_CASES, Path(folder))
        if "--full" in sys.argv:
            compare("video_full", "open-magvit2-video-128", ("t17_128x128",), Path(folder))
