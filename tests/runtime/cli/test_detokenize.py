"""`magvit detokenize`: what it writes, says and refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from magvit_runtime import Detokenizer, InputError, open_bundle
from magvit_runtime.cli.detokenize import detokenize
from magvit_runtime.cli.tokenize import tokenize
from magvit_runtime.clips.trajectories import RenderStyle
from magvit_runtime.results.token_files import read_tokens

STYLE = RenderStyle(frames=3, height=32, width=48)


@pytest.fixture(scope="module")
def tokens(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of noise, tokenized."""
    folder = tmp_path_factory.mktemp("tokens")
    noise = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 48, 3), np.uint8)
    np.save(folder / "clips.npy", noise)
    tokenize(tiny_bundle, folder / "clips.npy", output=folder / "tokens.npz", style=STYLE)
    return folder / "tokens.npz"


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_clips_are_what_a_detokenizer_gives(
    tiny_bundle: Path, tokens: Path, tmp_path: Path, batch_size: int
) -> None:
    outcome = detokenize(tiny_bundle, tokens, output=tmp_path / "clips.npy", batch_size=batch_size)
    with Detokenizer.open(tiny_bundle) as detokenizer:
        expected = detokenizer(read_tokens(tokens).tokens)
    np.testing.assert_array_equal(np.load(tmp_path / "clips.npy"), expected)
    assert (outcome.facts["clips"], outcome.facts["frames"]) == (5, 15)
    assert outcome.facts["warning"] is None
    assert "seeded" in outcome.text


def test_pictures_in_a_folder(tiny_bundle: Path, tokens: Path, tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="PNG files need Pillow")
    detokenize(tiny_bundle, tokens, output=tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*/frame_*.png"))) == 15


def test_tokens_of_another_vocabulary(tiny_bundle: Path, tokens: Path, tmp_path: Path) -> None:
    with np.load(tokens) as arrays:
        changed = dict(arrays)
    info = changed["info"].tobytes().replace(b'"bits":18', b'"bits":20')
    changed["info"] = np.frombuffer(info, np.uint8)
    np.savez(tmp_path / "other.npz", **changed)
    with pytest.raises(InputError) as error:
        detokenize(tiny_bundle, tmp_path / "other.npz", output=tmp_path / "out.npy")
    assert "are of another vocabulary than those of" in str(error.value)
    assert "decode them with a bundle of the model that made them" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["other.npz"]


def test_tokens_of_other_weights_are_decoded_with_a_warning(
    tiny_bundle: Path, tokens: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    manifest = (other / "bundle.json").read_text().replace('"name": "seeded"', '"name": "seeded:7"')
    (other / "bundle.json").write_text(manifest)
    assert open_bundle(other).manifest.component.weights.name == "seeded:7"
    outcome = detokenize(other, tokens, output=tmp_path / "out.npy")
    assert "made by trajectory-small with the weights seeded;" in outcome.facts["warning"]
    assert "warning: " in outcome.text


def test_it_never_writes_over_what_it_reads(tiny_bundle: Path, tokens: Path) -> None:
    before = tokens.read_bytes()
    with pytest.raises(InputError, match="which is read"):
        detokenize(tiny_bundle, tokens, output=tokens)
    assert tokens.read_bytes() == before


def test_a_file_that_holds_no_tokens(tiny_bundle: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "clips.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="is no token file"):
        detokenize(tiny_bundle, tmp_path / "clips.npz", output=tmp_path / "out.npy")
