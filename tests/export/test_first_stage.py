"""Checkpoints of autoregressive models, and the tokenizer that decodes what they generate."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seeded_checkpoints import (
    FIRST_STAGE,
    SMALL_AR,
    TINY,
    model_shapes,
    published_tensors,
    raw_tensors,
    write_checkpoint,
)
from torch import Tensor

from magvit_export.catalog import find_model
from magvit_export.checkpoints.reading import CheckpointError
from magvit_export.exporting import export_model
from magvit_export.families.autoregressive.config import AutoregressiveConfig
from magvit_export.families.autoregressive.transformer import empty_model
from magvit_runtime import Bundle, Detokenizer, Generator, InputError, open_bundle

ENTRY = find_model("open-magvit2-ar-b")
IMAGE = find_model("open-magvit2-image-256")


def transformer_tensors(config: AutoregressiveConfig = SMALL_AR) -> dict[str, Tensor]:
    state = empty_model(config).state_dict()
    return raw_tensors({key: tuple(value.shape) for key, value in state.items()})


def stage_tensors(shift: float) -> dict[str, Tensor]:
    """Raw weights other than those that the key names give."""
    tensors = raw_tensors(model_shapes(FIRST_STAGE))
    return {f"first_stage_model.{key}": value + shift for key, value in tensors.items()}


def exported(output: Path, weights: Path, tokenizer: Path | None = None, **options: Any) -> Bundle:
    return export_model(
        ENTRY,
        output,
        weights=str(weights),
        config=options.pop("config", SMALL_AR),
        tokenizer=None if tokenizer is None else str(tokenizer),
        tokenizer_config=options.pop("tokenizer_config", FIRST_STAGE),
        **options,
    )


def decoded(bundle: Path) -> np.ndarray:
    with Detokenizer.open(bundle) as detokenizer:
        return detokenizer(np.arange(16, dtype=np.int32).reshape(1, 4, 4) * 7919 % 2**18)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints: of a transformer, of one with a first stage, and of a tokenizer."""
    path = tmp_path_factory.mktemp("checkpoints")
    write_checkpoint(path / "ar.ckpt", transformer_tensors())
    content: Mapping[str, Any] = {
        "state_dict": transformer_tensors()
        | stage_tensors(0.01)
        | {
            "permuter.forward_shuffle_idx": torch.arange(16),
            "first_stage_model.loss.w": torch.ones(2),
        },
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
        "epoch": 3,
    }
    torch.save(content, path / "ar_with_stage.ckpt")
    write_checkpoint(path / "tokenizer.ckpt", published_tensors(FIRST_STAGE))
    return path


@pytest.mark.slow
def test_the_first_stages_raw_weights_decode(folder: Path, tmp_path: Path) -> None:
    """The tokenizer's file holds a moving average too, which the reference doesn't take."""
    bundle = exported(tmp_path / "ar", folder / "ar.ckpt", folder / "tokenizer.ckpt")
    components = bundle.manifest.components
    assert list(components) == ["autoregressive", "magvit"]
    assert components["magvit"].weights.name == "tokenizer.ckpt"
    assert components["magvit"].weights.variant == "raw"
    assert list(bundle.manifest.graphs) == ["context", "subtokens", "decode"]
    assert bundle.tokens.spatial_stride == 2
    export_model(
        IMAGE,
        tmp_path / "raw",
        weights=str(folder / "tokenizer.ckpt"),
        variant="raw",
        roles=["decode"],
        config=FIRST_STAGE,
    )
    np.testing.assert_array_equal(decoded(tmp_path / "ar"), decoded(tmp_path / "raw"))
    with Generator.open(tmp_path / "ar") as generator:
        assert generator([3]).shape == (1, 4, 4)


@pytest.mark.slow
def test_the_checkpoints_own_first_stage_wins(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        given = folder / "ar_with_stage.ckpt", folder / "tokenizer.ckpt"
        bundle = exported(tmp_path / "ar", *given)
    assert "holds a first stage of its own" in caplog.text
    assert bundle.manifest.components["magvit"].weights.name == "ar_with_stage.ckpt"
    exported(tmp_path / "other", folder / "ar.ckpt", folder / "tokenizer.ckpt")
    assert not np.array_equal(decoded(tmp_path / "ar"), decoded(tmp_path / "other"))


@pytest.mark.slow
def test_without_a_tokenizer_there_is_no_decoder_and_one_can_be_added(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "ar"
    bundle = exported(path, folder / "ar.ckpt", tokenizer_config=None)
    assert list(bundle.manifest.graphs) == ["context", "subtokens"]
    assert bundle.tokens.spatial_stride == 16
    exported(path, folder / "ar.ckpt", folder / "tokenizer.ckpt")
    exported(path, folder / "ar.ckpt", precision="int8")
    manifest = open_bundle(path).manifest
    assert {role: list(graphs) for role, graphs in manifest.graphs.items()} == {
        "context": ["fp32", "int8"],
        "subtokens": ["fp32", "int8"],
        "decode": ["fp32"],
    }
    assert manifest.tokens is not None
    assert manifest.tokens.spatial_stride == 2
    with pytest.raises(InputError, match="another model or other weights"):
        exported(path, folder / "ar.ckpt", folder / "ar_with_stage.ckpt")


def test_the_manifest_says_what_is_generated(ar_bundle: Path) -> None:
    content = json.loads((ar_bundle / "bundle.json").read_text())
    assert content["generation"] == {
        "classes": 10,
        "grid": [4, 4],
        "pre_bits": 6,
        "sampling": {
            "guidance": [1.9, 2.0],
            "temperature": [1.0, 1.0],
            "top_k": [0, 0],
            "top_p": [1.0, 1.0],
        },
    }
    inputs = content["graphs"]["context"]["fp32"]["inputs"]
    assert [one["name"] for one in inputs[:5]] == [
        *("classes", "ids", "position"),
        *("keys.0", "values.0"),
    ]
    assert inputs[0]["maximum"] == 10
    assert inputs[3]["shape"] == ["batch", 4, "rows", 16]


@pytest.mark.parametrize(
    ("weights", "tokenizer", "words"),
    [
        ("tokenizer.ckpt", None, "is a checkpoint of a tokenizer of the family magvit"),
        ("ar.ckpt", "ar.ckpt", "is a checkpoint of an autoregressive model"),
        ("none.ckpt", None, "is no file"),
        ("ar.ckpt", "none.ckpt", "is no file"),
    ],
)
def test_a_checkpoint_of_another_kind_is_named(
    folder: Path, tmp_path: Path, weights: str, tokenizer: str | None, words: str
) -> None:
    with pytest.raises(CheckpointError, match=words) as error:
        exported(
            tmp_path / "ar", folder / weights, None if tokenizer is None else folder / tokenizer
        )
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ar").exists()


def test_an_autoregressive_checkpoint_is_no_tokenizer(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="of an autoregressive model, and lacks all 61 keys"):
        export_model(IMAGE, tmp_path / "b", weights=str(folder / "ar.ckpt"), config=FIRST_STAGE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spatial_n_layer": 4}, "holds keys that this model doesn't have: found transformer.spat"),
        ({"dim": 128, "cond_dim": 128}, r"wrong shape: found \[64, 128\], expected \[64, 64\]"),
        ({"spatial_n_layer": 2}, "lacks 7 raw keys: found 34 of 41"),
    ],
)
def test_another_size_is_named(tmp_path: Path, change: dict[str, int], words: str) -> None:
    fields = {name: getattr(SMALL_AR, name) for name in SMALL_AR.__struct_fields__}
    path = write_checkpoint(
        tmp_path / "other.ckpt", transformer_tensors(AutoregressiveConfig(**(fields | change)))
    )
    with pytest.raises(CheckpointError, match=words):
        exported(tmp_path / "ar", path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"roles": ["encode"]}, "has no role 'encode': expected context, subtokens, decode"),
        ({"roles": ["decode"]}, "holds the model itself"),
        ({"roles": ["context", "decode"]}, "no weights to decode with. Fix: give them with"),
    ],
)
def test_roles_that_cannot_be(
    folder: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        exported(tmp_path / "ar", folder / "ar.ckpt", **options)


def test_a_tokenizer_of_other_ids_is_refused(folder: Path, tmp_path: Path) -> None:
    fields = {name: getattr(FIRST_STAGE, name) for name in FIRST_STAGE.__struct_fields__}
    other = type(FIRST_STAGE)(**(fields | {"z_channels": 14}))
    with pytest.raises(InputError, match="ids aren't those that the model generates"):
        exported(
            tmp_path / "ar",
            folder / "ar.ckpt",
            folder / "tokenizer.ckpt",
            tokenizer_config=other,
        )


def test_options_of_models_that_generate_are_refused_of_others(tmp_path: Path) -> None:
    small = find_model("trajectory-small")
    with pytest.raises(InputError, match="generates nothing that a tokenizer would decode"):
        export_model(small, tmp_path / "b", weights="seeded", config=TINY, tokenizer="seeded")
    with pytest.raises(InputError, match="isn't exported with weights of 8 bits"):
        export_model(small, tmp_path / "b", weights="seeded", config=TINY, precision="int8")
