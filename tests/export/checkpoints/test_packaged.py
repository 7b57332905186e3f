"""The weights that ship with the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from magvit_export.catalog import find_model
from magvit_export.checkpoints.packaged import TRAINED, packaged_checkpoint
from magvit_export.exporting import export_model
from magvit_export.families.magvit.tokenizer import MagvitTokenizer
from magvit_export.verification.pytorch_reference import component_model
from magvit_export.verification.references import find_reference
from magvit_runtime import open_bundle
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.errors import InputError

MODEL = "trajectory-small"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packaged") / "bundle"
    export_model(find_model(MODEL), folder, weights=TRAINED, roles=["encode"])
    return folder


def test_a_bundle_says_that_its_weights_were_trained(bundle: Path) -> None:
    found = open_bundle(bundle)
    assert not found.is_seeded
    assert "ships with magvit-runtime" in weights_label(found)
    assert "generated" not in weights_label(found)


def test_verification_finds_them(bundle: Path) -> None:
    reference = find_reference(open_bundle(bundle), None, None)
    assert reference.name.startswith("PyTorch")
    model = component_model(open_bundle(bundle), ["encode"], None)
    assert isinstance(model.module, MagvitTokenizer)
    found = model.module.encoder.conv_out.state_dict()
    folder = packaged_checkpoint(MODEL)
    assert folder is not None
    (weight,) = (
        value
        for key, value in load_file(folder / "encoder.safetensors").items()
        if "conv_out" in key and key.endswith("weight")
    )
    (mine,) = (value for key, value in found.items() if key.endswith("weight"))
    assert torch.equal(mine, weight.float())


def test_their_size_is_bounded_and_their_card_is_there() -> None:
    folder = packaged_checkpoint(MODEL)
    assert folder is not None
    assert (folder / "encoder.safetensors").stat().st_size <= 5e6
    assert (folder / "decoder.safetensors").stat().st_size <= 16e6
    assert "sha256" in (folder / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_other_models_have_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trained weights of open-magvit2-video-128 ship"):
        export_model(find_model("open-magvit2-video-128"), tmp_path / "b", weights=TRAINED)
