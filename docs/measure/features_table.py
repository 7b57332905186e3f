"""Features beside transformers' own, for docs/features.md; prints a table in Markdown.

    python docs/measure/features_table.py
    python docs/measure/features_table.py --smoke

Exports VideoMAE-base and CLIP ViT-B/32 with seeded weights, runs a clip of 17 frames of 240x320
noise, and compares with transformers' model and Pillow processor on the same weights.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import torch
import transformers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from magvit_export.catalog import find_model
from magvit_export.checkpoints.seeded import seeded_state
from magvit_export.exporting import export_model
from magvit_runtime import FeatureExtractor
from magvit_runtime.clips.frame_choice import evenly_chosen
from magvit_runtime.types import Array

CALLS = 3


def theirs(name: str, config: msgspec.Struct, clip: Array) -> Array:
    """Transformers' features of a clip [T, H, W, 3]."""
    values = {key: getattr(config, key) for key in config.__struct_fields__ if key != "processor"}
    if name == "videomae-base":
        model: Any = transformers.VideoMAEModel(transformers.VideoMAEConfig(**values))
        frames = [list(clip[evenly_chosen(len(clip), values["num_frames"])])]
        processor, output = VideoMAEImageProcessorPil(), "last_hidden_state"
    else:
        vision = transformers.CLIPVisionConfig(**values)
        model = transformers.CLIPVisionModelWithProjection(vision)
        frames, processor, output = list(clip), CLIPImageProcessorPil(), "image_embeds"
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(seeded_state(shapes))
    with torch.inference_mode():
        pixels = processor(frames, return_tensors="pt")["pixel_values"]
        found: Array = model.eval()(pixels)[output].numpy()
    return found


def rows(name: str, **changes: object) -> list[str]:
    entry = find_model(name)
    assert entry.config is not None
    config = msgspec.structs.replace(entry.config, **changes)
    clip = np.random.default_rng(0).integers(0, 256, (17, 240, 320, 3), np.uint8)
    expected = theirs(name, config, clip)
    lines = []
    for precision in ("fp32", "fp16"):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "bundle"
            begin = time.perf_counter()
            bundle = export_model(entry, path, weights="seeded", config=config, precision=precision)
            exported = time.perf_counter() - begin
            size = sum(record.size for record in bundle.manifest.files.values())
            with FeatureExtractor.open(path, batch_size=17) as extractor:
                ours = extractor(clip[None]).reshape(expected.shape)
                begin = time.perf_counter()
                for _ in range(CALLS):
                    extractor(clip[None])
                seconds = (time.perf_counter() - begin) / CALLS
        errors = ours - expected
        rms = np.sqrt(np.mean(errors**2) / np.mean(expected**2))
        lines.append(
            f"| {name} | {precision} | {list(ours.shape)} | {np.abs(errors).max():.1e} | {rms:.1e} "
            f"| {size / 1e6:.0f} MB | {exported:.0f} s | {seconds:.2f} s |"
        )
    return lines


def main() -> None:
    changes = {"num_hidden_layers": 1} if "--smoke" in sys.argv else {}
    columns = ("model", "precision", "features", "largest error", "relative rms", "bundle")
    print(f"| {' | '.join(columns)} | export | a clip |")
    print("|---|---|---|---|---|---|---|---|")
    for name in ("clip-vit-base-patch32", "videomae-base"):
        print("\n".join(rows(name, **changes)), flush=True)


if __name__ == "__main__":
    main()
