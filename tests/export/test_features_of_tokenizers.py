"""Features of tokenizers' encoders: what they are, and that a bundle stores no weights twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from seeded_checkpoints import TINY, TINY_IBQ

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.families.family import find_family
from magvit_export.verification.pytorch_reference import pytorch_role
from magvit_runtime import FeatureExtractor, Tokenizer, open_bundle
from magvit_runtime.errors import InputError

PRESET = find_model("trajectory-small")


def clips(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "bundle"
    for precision in ("fp32", "fp16"):
        roles = ["encode", "features"]
        export_model(PRESET, path, weights="seeded", roles=roles, config=TINY, precision=precision)
    return path


def test_they_are_what_the_last_conv_projects(bundle: Path) -> None:
    given = clips(2, 5, 24, 32, 3)
    with FeatureExtractor.open(bundle) as extractor, Tokenizer.open(bundle) as tokenizer:
        features, pooled = extractor(given), extractor(given, pool="mean")
        latents = tokenizer.latents(given)
    assert features.shape == (2, 64, 5, 12, 16)
    np.testing.assert_allclose(pooled, features.mean(axis=(2, 3, 4)), atol=1e-5)
    conv = pytorch_role(open_bundle(bundle), "encode").module.encoder.conv_out
    with torch.inference_mode():
        projected = conv(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(projected, latents, atol=1e-4)


def test_images_of_ibq(tmp_path: Path) -> None:
    export_model(
        find_model("ibq-1024"), tmp_path, weights="seeded", roles=["features"], config=TINY_IBQ
    )
    with FeatureExtractor.open(tmp_path) as extractor:
        assert extractor(clips(2, 32, 48, 3)).shape == (2, 64, 16, 24)
        assert extractor(clips(2, 3, 32, 48, 3), pool="mean").shape == (2, 64)


@pytest.mark.parametrize("family", ["magvit", "ibq"])
def test_they_are_exported_on_request_alone(family: str) -> None:
    roles = find_family(family).roles
    assert [name for name, role in roles.items() if role.on_request] == ["features"]


def test_the_encoders_weights_are_stored_once(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    for precision in ("fp32", "fp16"):
        graph = manifest.graphs["features"][precision]
        assert f"encode.{precision}.data" in graph.data
        own = sum(manifest.files[name].size for name in graph.data if "features" in name)
        assert own < 0.01 * manifest.files[f"encode.{precision}.data"].size


def test_they_join_an_encoder_that_is_there(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    export_model(PRESET, path, weights="seeded", roles=["encode"], config=TINY)
    export_model(PRESET, path, weights="seeded", roles=["features"], config=TINY)
    expected = open_bundle(bundle).manifest
    found = open_bundle(path).manifest
    assert found.graphs["features"]["fp32"] == expected.graphs["features"]["fp32"]
    assert found.files.items() <= expected.files.items()
    assert not any(file.is_symlink() for file in path.iterdir())
    given = clips(1, 3, 16, 16, 3)
    with FeatureExtractor.open(path) as ours, FeatureExtractor.open(bundle) as theirs:
        np.testing.assert_array_equal(ours(given), theirs(given, pool="none"))


def test_alone_they_have_weights_of_their_own(tmp_path: Path) -> None:
    bundle = export_model(PRESET, tmp_path, weights="seeded", roles=["features"], config=TINY)
    assert bundle.graph("features")[1].data == ("features.fp32.data",)


def test_an_encoder_exported_again_leaves_them_whole(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(bundle, path)
    export_model(PRESET, path, weights="seeded", roles=["encode"], config=TINY)
    given = clips(1, 3, 16, 16, 3)
    with FeatureExtractor.open(path) as extractor:
        assert extractor(given).shape == (1, 64, 3, 8, 8)


def test_a_file_that_they_need_is_not_replaced(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another release of the exporter may lay the weights out otherwise."""
    from magvit_export import exporting

    path = tmp_path / "bundle"
    shutil.copytree(bundle, path)
    records = exporting.file_records

    def other_records(files: list[Path]) -> object:
        for file in files:
            if file.suffix == ".data":
                file.write_bytes(b"other" + file.read_bytes())
        return records(files)

    monkeypatch.setattr(exporting, "file_records", other_records)
    with pytest.raises(InputError, match=r"features that takes.*--roles encode,features"):
        export_model(PRESET, path, weights="seeded", roles=["encode"], config=TINY)
    assert open_bundle(path).manifest.files == open_bundle(bundle).manifest.files


def test_a_bundle_whose_encoder_was_changed_is_refused(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(bundle, path)
    with (path / "encode.fp32.data").open("r+b") as file:
        file.write(b"\1\2\3\4")
    from magvit_runtime.errors import BundleError

    with pytest.raises(BundleError, match="has changed since export"):
        export_model(PRESET, path, weights="seeded", roles=["features"], config=TINY)
