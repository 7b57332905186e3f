"""`magvit evaluate`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magvit_runtime import Detokenizer, Tokenizer
from magvit_runtime.cli.main import main
from magvit_runtime.evaluation.pixel_quality import psnr


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    path = tmp_path / "clips.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (4, 5, 16, 16, 3), dtype=np.uint8))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_figures_are_those_of_the_bundles_own_way(
    tiny_bundle: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    code, out, _ = run(
        capsys,
        *("evaluate", "reconstruction", tiny_bundle, clips, "--beside", tiny_bundle),
        *("--sheet", sheet, "--json"),
    )
    assert code == 0
    first, second = json.loads(out)["bundles"]
    assert {**second, "bundle": first["bundle"]} == first
    original = np.load(clips)
    with Tokenizer.open(tiny_bundle) as tokenizer, Detokenizer.open(tiny_bundle) as detokenizer:
        ids = tokenizer(original)
        decoded = detokenizer(ids)
    kept = decoded.shape[1]
    noise = psnr(original[:, :kept], decoded)
    assert first["psnr"]["value"] == pytest.approx(noise.mean())
    assert first["psnr"]["low"] <= noise.mean() <= first["psnr"]["high"]
    assert first["tokens"] == ids.size
    assert first["left_out_frames"] == 4 * (5 - kept)
    assert first["codes_used"]["value"] == pytest.approx(len(np.unique(ids)) / 2**18)
    assert first["weights"].startswith("seeded weights")
    assert Image.open(sheet).mode == "RGB"


def test_a_table_shows_bundles_side_by_side(
    tiny_bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(
        capsys, "evaluate", "reconstruction", tiny_bundle, clips, "--beside", tiny_bundle
    )
    assert code == 0
    (row,) = (line for line in out.splitlines() if "PSNR, dB" in line)
    assert row.count(" to ") == 2


def test_a_bundle_without_a_decoder_and_a_sheet_over_the_clips_are_refused(
    tiny_bundle: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "evaluate", "reconstruction", tiny_bundle, clips, "--sheet", clips)
    assert code == 2
    assert "clips.npy" in err
    missing = tmp_path / "none"
    code, _, err = run(capsys, "evaluate", "reconstruction", missing, clips)
    assert code == 1
    assert "no bundle" in err
