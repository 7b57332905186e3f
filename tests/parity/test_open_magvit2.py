"""Image tokenizers beside the public package open-magvit2, on the same weights.

It shares no code with ours, and its classes load our seeded weights by the names that they have in
a checkpoint. `make build/open-magvit2` installs it where nothing else finds it, since it pins old
versions of much that it doesn't need here; it runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from seeded_checkpoints import model_shapes

from magvit_export.catalog import IMAGE_16X, find_model
from magvit_export.checkpoints.seeded import seeded_state
from magvit_export.exporting import export_model
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_runtime import Detokenizer, Tokenizer

SITE = "MAGVIT_OPEN_MAGVIT2_SITE"
LATENT_TOLERANCE = 5e-5
# A bit whose latent is nearer to zero than rounding may be either.
UNCERTAIN = 1e-4
# Both released topologies and codebooks, with fewer channels.
CONFIGS = {
    "16x": TokenizerConfig(ch=32, ch_mult=IMAGE_16X, num_res_blocks=2, dims=2),
    "8x of 14 bits": TokenizerConfig(ch=32, num_res_blocks=1, z_channels=14, dims=2),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site() -> Path:
    folder = Path(os.environ.get(SITE, ""))
    if not (folder / "open_magvit2").is_dir():
        pytest.skip(f"no open-magvit2: `make build/open-magvit2`, and {SITE}=build/open-magvit2")
    return folder.absolute()


@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_and_pixels_are_those_of_open_magvit2(name: str, site: Path, tmp_path: Path) -> None:
    config = CONFIGS[name]
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (3, 96, 64, 3), np.uint8)
    images[1] = 128  # Flat, which is where norms go wrong first.
    grid = tuple(size // config.spatial_stride for size in images.shape[1:3])
    ids = generator.integers(0, 2**config.z_channels, (3, *grid), np.int32)
    theirs = run_peer(site, tmp_path, config, images, ids)

    bundle = tmp_path / "bundle"
    export_model(find_model("open-magvit2-image-256"), bundle, weights="seeded", config=config)
    certain = (np.abs(theirs["latents"]) > UNCERTAIN).all(axis=1)
    assert certain.mean() > 0.99
    for backend in ("onnxruntime", "native"):
        with Tokenizer.open(bundle, backend=backend, precision="fp32") as tokenizer:
            ours, latents = tokenizer(images), tokenizer.latents(images)
        np.testing.assert_allclose(latents, theirs["latents"], rtol=0, atol=LATENT_TOLERANCE)
        np.testing.assert_array_equal(ours[certain], theirs["ids"][certain])
        with Detokenizer.open(bundle, backend=backend, precision="fp32") as detokenizer:
            pixels = detokenizer(ids)
        unit = np.clip((np.moveaxis(theirs["frames"].astype(np.float64), 1, -1) + 1) / 2, 0, 1)
        errors = np.abs(pixels - np.floor(unit * 255 + 0.5))
        assert errors.max() <= 1
        assert np.mean(errors == 0) > 0.995


def run_peer(
    site: Path, folder: Path, config: TokenizerConfig, images: np.ndarray, ids: np.ndarray
) -> dict[str, np.ndarray]:
    """Latents, ids and frames that the other package computes."""
    given, made = folder / "given.npz", folder / "made.npz"
    weights = {key: value.numpy() for key, value in seeded_state(model_shapes(config)).items()}
    ddconfig = {k: v for k, v in msgspec.to_builtins(config).items() if k != "dims"}
    np.savez(given, **weights, ddconfig=json.dumps(ddconfig), images=images, ids=ids)
    run = subprocess.run(
        [sys.executable, Path(__file__).with_name("open_magvit2_peer.py"), given, made],
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    return dict(np.load(made))
