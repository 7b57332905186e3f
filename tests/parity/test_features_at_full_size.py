"""VideoMAE-base and CLIP ViT-B/32 at full size, seeded: against transformers, and as engines."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from transformers_folders import clip_features, relative_rms, seed, videomae_features

from magvit_export.catalog import find_model
from magvit_export.engines.build import build_engine
from magvit_export.engines.options import BuildOptions
from magvit_export.engines.planning import plan_build
from magvit_export.exporting import export_model
from magvit_runtime import FeatureExtractor, open_bundle
from magvit_runtime.hardware.machine import Machine

FRAMES = [*range(8), *range(9, 17)]  # Of 17, the middle one is left out.


def videomae() -> Any:
    config = transformers.VideoMAEConfig(use_mean_pooling=False)
    return seed(transformers.VideoMAEModel(config))


def clip() -> Any:
    return seed(transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig()))


def theirs(name: str, clips: np.ndarray) -> np.ndarray:
    if name == "videomae-base":
        return videomae_features(videomae(), clips[:, FRAMES], {})
    return clip_features(clip(), clips[0], {})[None]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param("videomae-base", (1, 1568, 768), marks=pytest.mark.nightly),  # 2 minutes.
        ("clip-vit-base-patch32", (1, 17, 512)),
    ],
)
def test_features_are_transformers_own(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (1, 17, 97, 131, 3), np.uint8)
    expected = theirs(name, clips)
    for precision in ("fp32", "fp16"):
        export_model(find_model(name), tmp_path, weights="seeded", precision=precision)
        with FeatureExtractor.open(tmp_path, precision=precision) as extractor:
            ours = extractor(clips)
        assert ours.shape == shape
        if precision == "fp32":
            assert np.abs(ours - expected).max() < 1e-4
        else:
            assert relative_rms(ours, expected) < 2e-3
    if find_spec("tensorrt_rtx") is not None:
        builds(tmp_path, shape[0])


def builds(bundle: Path, batch: int) -> None:
    """An engine for the sizes that the graph has, whatever the options' defaults are."""
    opened = open_bundle(bundle)
    options = BuildOptions(flavour="tensorrt-rtx", role="features", profile=f"1/{batch}/4")
    plan = plan_build(opened, options, Machine())
    shapes = plan.key.profiles[0]["frames"]
    assert shapes.optimum == (batch, *opened.graph("features")[1].inputs[0].shape[1:])
    built = build_engine(opened, plan).engine.record
    assert built.plan.size > 150e6  # 90 M weights of two bytes.
    assert built.plugin_layers == {}
