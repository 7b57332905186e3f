"""Folders of tiny VideoMAE and CLIP models, as transformers saves them, with seeded weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from magvit_export.checkpoints.seeded import seeded_state

VIDEOMAE: dict[str, Any] = {
    "image_size": 32,
    "num_frames": 4,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "use_mean_pooling": False,
}
CLIP: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "projection_dim": 24,
}
# As the hub's files are written: sizes as numbers, and no word of rescaling.
VIDEOMAE_PROCESSOR = {
    "feature_extractor_type": "VideoMAEFeatureExtractor",
    "size": 32,
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
}
CLIP_PROCESSOR = {
    "feature_extractor_type": "CLIPFeatureExtractor",
    "size": 32,
    "crop_size": 32,
    "resample": 3,
    "do_resize": True,
    "do_center_crop": True,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def seed(model: Any) -> Any:
    """Gives a model of transformers seeded weights."""
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items() if value.ndim}
    model.load_state_dict(seeded_state(shapes), strict=False)  # All but CLIP's one number.
    return model.eval()


def videomae(**changes: Any) -> Any:
    return seed(transformers.VideoMAEModel(transformers.VideoMAEConfig(**VIDEOMAE | changes)))


def clip(**changes: Any) -> Any:
    config = transformers.CLIPVisionConfig(**CLIP | changes)
    return seed(transformers.CLIPVisionModelWithProjection(config))


def save(
    model: Any,
    folder: Path,
    processor: dict[str, Any] | None,
    name: str = "preprocessor_config.json",
    **options: Any,
) -> Path:
    model.save_pretrained(folder, **options)
    if processor is not None:
        (folder / name).write_text(json.dumps(processor))
    return folder


def videomae_features(model: Any, clips: np.ndarray, processor: dict[str, Any]) -> np.ndarray:
    """What transformers alone makes of clips [N, T, H, W, 3]."""
    pixels = VideoMAEImageProcessorPil.from_dict(processor)(
        [list(clip) for clip in clips], return_tensors="pt", input_data_format="channels_last"
    )["pixel_values"]
    with torch.inference_mode():
        found: np.ndarray = model(pixels).last_hidden_state.numpy()
    return found


def clip_features(model: Any, images: np.ndarray, processor: dict[str, Any]) -> np.ndarray:
    """What transformers alone makes of images [N, H, W, 3]."""
    pixels = CLIPImageProcessorPil.from_dict(processor)(
        list(images), return_tensors="pt", input_data_format="channels_last"
    )["pixel_values"]
    with torch.inference_mode():
        found: np.ndarray = model(pixels).image_embeds.numpy()
    return found


def relative_rms(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2)))
