"""Folders of VideoMAE as users have them: heads, shards, pickles, old names, other processors."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers_folders import (
    VIDEOMAE,
    VIDEOMAE_PROCESSOR,
    relative_rms,
    save,
    seed,
    videomae,
    videomae_features,
)

from magvit_export.catalog import find_model
from magvit_export.checkpoints.errors import CheckpointError
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_export.families.videomae.config import VideoMaeConfig, read_folder
from magvit_export.families.videomae.family import FAMILY
from magvit_export.loading import load_roles
from magvit_runtime import FeatureExtractor, open_bundle
from magvit_runtime.bundle.pixel_rules import Resizing
from magvit_runtime.errors import InputError

ENTRY = find_model("videomae-base")


def own_features(folder: Path, clips: np.ndarray) -> np.ndarray:
    """Features of a folder's model by our module in PyTorch, of clips at the model's size."""
    config = read_folder(folder)
    model, _ = load_roles(FAMILY, ENTRY, config, None, str(folder), None)
    with torch.inference_mode():
        features, _ = FAMILY.roles["features"].wrap(model.module)(torch.from_numpy(clips))
    found: np.ndarray = features.numpy()
    return found


def clips() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)


def test_pretrained_and_fine_tuned_checkpoints_give_their_encoders_features(tmp_path: Path) -> None:
    kinds = {
        "pretrained": (transformers.VideoMAEForPreTraining, False),
        "fine-tuned": (transformers.VideoMAEForVideoClassification, True),
    }
    for name, (kind, pools) in kinds.items():
        whole = seed(kind(transformers.VideoMAEConfig(**VIDEOMAE | {"use_mean_pooling": pools})))
        folder = save(whole, tmp_path / name, VIDEOMAE_PROCESSOR)
        theirs = videomae_features(whole.videomae, clips(), VIDEOMAE_PROCESSOR)
        assert relative_rms(own_features(folder, clips()), theirs) < 1e-5


def test_shards_and_pickles(videomae_folder: Path, tmp_path: Path) -> None:
    expected = own_features(videomae_folder, clips())
    sharded = save(videomae(), tmp_path / "sharded", VIDEOMAE_PROCESSOR, max_shard_size="50KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    torch.save(videomae().state_dict(), pickled / "pytorch_model.bin")
    torch.save({"lr": 1}, pickled / "training_args.bin")  # As Trainer leaves it beside.
    for name in ("config.json", "preprocessor_config.json"):
        (pickled / name).write_bytes((videomae_folder / name).read_bytes())
    for folder in (sharded, pickled):
        np.testing.assert_array_equal(own_features(folder, clips()), expected)


@pytest.mark.parametrize(
    "names", [("q_bias", "v_bias"), ("query.bias", "value.bias")], ids=["old", "new"]
)
def test_biases_under_either_name(
    videomae_folder: Path, tmp_path: Path, names: tuple[str, str]
) -> None:
    """Files have the old names; transformers 5 itself has the new ones in memory."""
    folder = save(videomae(), tmp_path, VIDEOMAE_PROCESSOR)
    renamed = {}
    for key, value in load_file(folder / "model.safetensors").items():
        for kinds, name in zip(
            (("q_bias", "query.bias"), ("v_bias", "value.bias")), names, strict=True
        ):
            key = next((key.replace(kind, name) for kind in kinds if kind in key), key)
        renamed[key] = value
    assert any(names[0] in key for key in renamed)
    save_file(renamed, folder / "model.safetensors")
    expected = own_features(videomae_folder, clips())
    np.testing.assert_array_equal(own_features(folder, clips()), expected)


def test_a_key_that_is_missing_or_unknown_is_named(videomae_folder: Path, tmp_path: Path) -> None:
    tensors = load_file(videomae_folder / "model.safetensors")
    folder = save(videomae(), tmp_path, VIDEOMAE_PROCESSOR)
    gone = "encoder.layer.1.output.dense.weight"
    save_file({k: v for k, v in tensors.items() if k != gone}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"lacks 1 raw keys.*{gone}"):
        own_features(folder, clips())
    save_file({**tensors, "adapter.weight": torch.ones(2)}, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"keys that this model doesn't have.*adapter\.weight"
    ):
        own_features(folder, clips())


def test_a_norm_that_config_json_rules_out_is_not_passed_over(
    videomae_folder: Path, tmp_path: Path
) -> None:
    folder = save(videomae(use_mean_pooling=True), tmp_path, VIDEOMAE_PROCESSOR)
    (folder / "model.safetensors").write_bytes((videomae_folder / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"found layernorm\.bias, layernorm\.weight"):
        own_features(folder, clips())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("preprocessor_config.json", VIDEOMAE_PROCESSOR),
        ("video_preprocessor_config.json", VIDEOMAE_PROCESSOR),
        ("processor_config.json", {"image_processor": VIDEOMAE_PROCESSOR}),
        ("processor_config.json", {"video_processor": VIDEOMAE_PROCESSOR}),
    ],
)
def test_where_the_processor_is_read(tmp_path: Path, name: str, content: dict[str, Any]) -> None:
    folder = save(videomae(), tmp_path, content, name)
    config = read_folder(folder)
    assert config is not None
    assert config.processor.mean == (0.485, 0.456, 0.406)
    assert config.processor.source == name
    assert config.processor.resizing == Resizing("bilinear", shorter_edge=32)


def test_the_bundle_records_what_is_done_to_pixels(videomae_bundle: Path) -> None:
    _, graph = open_bundle(videomae_bundle).graph("features")
    rules = graph.preprocessing
    assert rules is not None
    assert (rules.layout, rules.frames, rules.crop) == ("NTHWC", 4, (32, 32))
    assert rules.resizing == Resizing("bilinear", shorter_edge=32)
    assert rules.formula == ("(x * 0.00392156863 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]")
    assert rules.source == "preprocessor_config.json"


def test_without_a_processor_its_class_decides_at_the_models_size(tmp_path: Path) -> None:
    config = read_folder(save(videomae(), tmp_path, None))
    assert config is not None
    assert config.processor.mean == (0.5, 0.5, 0.5)
    assert config.processor.resizing == Resizing("bilinear", shorter_edge=32)
    assert config.processor.crop == (32, 32)
    assert config.processor.source == "defaults of transformers' VideoMAEImageProcessorPil"


def test_a_processor_of_another_size_is_refused(tmp_path: Path) -> None:
    folder = save(videomae(), tmp_path, VIDEOMAE_PROCESSOR | {"crop_size": 40})
    with pytest.raises(InputError, match=r"doesn't fit the model: found frames of 40x40"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": {"shortest_edge": 32, "longest_edge": 40}}, "longest_edge"),
        ({"image_std": [0, 1, 1]}, "can't be normalised"),
        ({"image_mean": [0.5, 0.5]}, "unpack"),
        ({"do_pad": True}, "do_pad"),
        ({"resample": 99}, "index"),
    ],
)
def test_what_a_processor_may_not_ask(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = save(videomae(), tmp_path, VIDEOMAE_PROCESSOR | change)
    with pytest.raises(InputError, match=f"asks for what isn't done.*{message}"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "no JSON object"),
        (b'{"model_type": "clip"}', "another kind of model: found model_type 'clip'"),
        (b"{}", "another kind of model"),
        (b'{"model_type": "videomae", "hidden_size": "a"}', "isn't a VideoMAEConfig"),
        (b'{"model_type": "videomae", "num_channels": 4}', "can't be exported"),
        (b'{"model_type": "videomae", "num_hidden_layers": 0}', "can't be exported"),
    ],
)
def test_a_config_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_folder(tmp_path)


def test_a_tokenizers_checkpoint_is_refused(small_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        export_model(ENTRY, tmp_path / "bundle", weights=str(small_checkpoint))
    assert not (tmp_path / "bundle").exists()


def test_a_folder_of_features_is_no_tokenizers(videomae_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        export_model(
            find_model("trajectory-small"), tmp_path / "bundle", weights=str(videomae_folder)
        )


def test_another_size_than_the_models_is_said_and_recorded(
    videomae_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        bundle = export_model(
            ENTRY, tmp_path / "bundle", weights=str(videomae_folder), sizes=ClipSizes(batch=3)
        )
    assert "isn't built as videomae-base" in caplog.text
    assert bundle.manifest.component.config["hidden_size"] == 48
    assert bundle.graph("features")[1].inputs[0].shape == (3, 4, 32, 32, 3)
    with FeatureExtractor.open(bundle.path, batch_size=3) as extractor:
        assert extractor(np.concatenate([clips(), clips()[:1]])).shape == (3, 8, 48)


@pytest.mark.parametrize("name", ["frames", "height", "width"])
def test_sizes_are_fixed(videomae_folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"`{name}` of this model is fixed: found 48, expected"):
        export_model(
            ENTRY, tmp_path / "b", weights=str(videomae_folder), sizes=ClipSizes(**{name: 48})
        )


def test_the_catalogs_config_is_transformers_own() -> None:
    ours, theirs = VideoMaeConfig(), transformers.VideoMAEConfig()
    for name in {*VideoMaeConfig.__struct_fields__} - {"processor", "use_mean_pooling"}:
        value = getattr(theirs, name)
        assert getattr(ours, name) == ((value, value) if name.endswith("h_size") else value) or (
            name in ("image_size", "patch_size") and getattr(ours, name) == (value, value)
        )
    processor = json.loads(
        transformers.models.videomae.image_processing_pil_videomae.VideoMAEImageProcessorPil().to_json_string()
    )
    assert list(ours.processor.mean) == list(processor["image_mean"])
    assert ours.processor.crop == (224, 224)
