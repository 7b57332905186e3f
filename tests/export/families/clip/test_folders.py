"""Folders of CLIP as users have them: whole or the image encoder alone, of several generations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers_folders import (
    CLIP,
    CLIP_PROCESSOR,
    clip,
    clip_features,
    relative_rms,
    save,
    seed,
)

from magvit_export.catalog import find_model
from magvit_export.checkpoints.errors import CheckpointError
from magvit_export.families.clip.config import ClipConfig, read_folder
from magvit_export.families.clip.family import FAMILY
from magvit_export.loading import load_roles
from magvit_runtime.bundle.pixel_rules import Resizing
from magvit_runtime.errors import InputError

ENTRY = find_model("clip-vit-base-patch32")
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def own_features(folder: Path, images: np.ndarray) -> np.ndarray:
    """Features of a folder's model by our module in PyTorch, of images at the model's size."""
    config = read_folder(folder)
    model, _ = load_roles(FAMILY, ENTRY, config, None, str(folder), None)
    with torch.inference_mode():
        (features,) = FAMILY.roles["features"].wrap(model.module)(torch.from_numpy(images))
    found: np.ndarray = features.numpy()
    return found


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def whole(projection: int) -> Any:
    config = transformers.CLIPConfig(
        text_config=TEXT, vision_config=CLIP, projection_dim=projection
    )
    return seed(transformers.CLIPModel(config))


def test_of_the_whole_model_the_image_encoder_is_taken(tmp_path: Path) -> None:
    model = whole(projection=20)
    folder = save(model, tmp_path, CLIP_PROCESSOR)
    # As published files were written until 2022.
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, path)
    pixels = transformers.models.clip.image_processing_pil_clip.CLIPImageProcessorPil.from_dict(
        CLIP_PROCESSOR
    )(list(images()), return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    with torch.inference_mode():
        pooled = model.vision_model(pixels).pooler_output
        theirs = model.visual_projection(pooled).numpy()
    assert theirs.shape == (3, 20)
    assert relative_rms(own_features(folder, images()), theirs) < 1e-5


def test_another_width_patch_and_depth(tmp_path: Path) -> None:
    model = clip(hidden_size=64, num_attention_heads=4, patch_size=16, num_hidden_layers=3)
    folder = save(model, tmp_path, CLIP_PROCESSOR)
    theirs = clip_features(model, images(), CLIP_PROCESSOR)
    assert relative_rms(own_features(folder, images()), theirs) < 1e-5


def test_an_old_config_with_a_dict_of_changes(clip_folder: Path, tmp_path: Path) -> None:
    folder = save(clip(), tmp_path, CLIP_PROCESSOR)
    old = {"model_type": "clip", "projection_dim": 24, "vision_config_dict": CLIP}
    (folder / "config.json").write_text(json.dumps(old))
    np.testing.assert_array_equal(
        own_features(folder, images()), own_features(clip_folder, images())
    )


def test_what_was_read_of_the_processor(clip_folder: Path) -> None:
    config = read_folder(clip_folder)
    assert config is not None
    assert config.processor.resizing == Resizing("bicubic", shorter_edge=32)
    assert config.processor.crop == (32, 32)
    assert config.processor.source == "preprocessor_config.json"


def test_an_encoder_without_its_projection_is_refused(tmp_path: Path) -> None:
    folder = save(clip(), tmp_path, CLIP_PROCESSOR)
    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"visual_projection\.weight"):
        own_features(folder, images())


def test_a_text_encoder_alone_is_refused(tmp_path: Path) -> None:
    text = transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT))
    with pytest.raises(InputError, match="found model_type 'clip_text_model'"):
        read_folder(save(text, tmp_path, None))


def test_the_catalogs_config_is_transformers_own() -> None:
    ours, theirs = ClipConfig(), transformers.CLIPVisionConfig()
    for name in {*ClipConfig.__struct_fields__} - {"processor"}:
        assert getattr(ours, name) == getattr(theirs, name), name
    kind = transformers.models.clip.image_processing_pil_clip.CLIPImageProcessorPil
    assert ours.processor.mean == tuple(kind.image_mean)
    assert ours.processor.std == tuple(kind.image_std)
