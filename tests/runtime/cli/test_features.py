"""`magvit features`: arrays, images and trajectories to files of features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from magvit_runtime import FeatureExtractor
from magvit_runtime.cli.main import main
from magvit_runtime.results.feature_files import read_features


def magvit(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict, str]:
    with pytest.raises(SystemExit) as ended:
        main(["--json", *map(str, arguments)])
    shown = capsys.readouterr()
    return int(ended.value.code or 0), json.loads(shown.out) if shown.out else {}, shown.err


def test_frames_to_parquet(
    videomae_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (3, 6, 40, 50, 3), np.uint8)
    np.save(tmp_path / "clips.npy", clips)
    output = tmp_path / "features.parquet"
    code, facts, _ = magvit(
        capsys, "features", videomae_bundle, tmp_path / "clips.npy", "-o", output, "--batch-size", 2
    )
    assert (code, facts["clips"], facts["shape"]) == (0, 3, [8, 48])
    table = read_features(output)
    assert table.ids == ("0", "1", "2")
    with FeatureExtractor.open(videomae_bundle, batch_size=2) as extractor:
        np.testing.assert_allclose(table.features, extractor(clips), atol=1e-6)


@pytest.mark.parametrize(("pool", "shape"), [("none", [5, 24]), ("mean", [24])])
def test_trajectories_through_a_model_of_images(
    clip_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    pool: str,
    shape: list[int],
) -> None:
    (tmp_path / "t.csv").write_text("id,x,y\na,0,0\na,1,1\nb,0,1\nb,1,0\n")
    output = tmp_path / "f.npz"
    code, facts, _ = magvit(
        capsys,
        *("features", clip_bundle, tmp_path / "t.csv", "-o", output, "--pool", pool),
        *("--frames", 5, "--height", 48, "--width", 64),
    )
    assert (code, facts["clips"], facts["shape"]) == (0, 2, shape)
    assert read_features(output).ids == ("a", "b")


@pytest.mark.parametrize(
    ("options", "camera"),
    [((), "the default camera (pinhole, "), (("--views", 2), "and 1 more around")],
)
def test_what_saw_trajectories_in_space_is_said(
    clip_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[object, ...],
    camera: str,
) -> None:
    (tmp_path / "t.csv").write_text("id,x,y,z\na,0,0,0\na,1,1,1\na,2,1,3\n")
    arguments = ("features", clip_bundle, tmp_path / "t.csv", "-o", tmp_path / "f.npz", *options)
    code, facts, _ = magvit(capsys, *arguments)
    views = 2 if options else 1
    assert (code, facts["clips"], facts["views"]) == (0, views, views)
    assert facts["camera"]["kind"] == "pinhole"
    with pytest.raises(SystemExit):
        main([str(argument) for argument in arguments])
    assert camera in capsys.readouterr().out


def test_a_tokenizers_bundle_is_refused_in_a_sentence(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "clips.npy", np.zeros((1, 3, 32, 32, 3), np.uint8))
    output = tmp_path / "f.parquet"
    code, _, error = magvit(capsys, "features", tiny_bundle, tmp_path / "clips.npy", "-o", output)
    assert code == 1
    assert "has no features graph" in error
    assert "--roles features" in error
    assert not output.exists()
