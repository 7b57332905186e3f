"""Every size of IBQ at the full 256x256, seeded: the native backend beside ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from magvit_export.catalog import CATALOG, CatalogEntry
from magvit_export.exporting import export_model
from magvit_runtime.agreement.limits import PIXEL_LIMITS
from magvit_runtime.agreement.margins import MarginAccumulator
from magvit_runtime.agreement.pixels import PixelAccumulator
from magvit_runtime.backends.opening import open_role

ENTRIES = [entry for entry in CATALOG if entry.family == "ibq"]
# The pretrained models have the architectures of others.
SIZES = {str(entry.config): entry for entry in reversed(ENTRIES)}.values()


def test_six_models_have_four_architectures() -> None:
    assert len(ENTRIES) == 6
    assert sorted(entry.config.n_embed for entry in SIZES) == [1024, 8192, 16384, 262144]


@pytest.mark.full_size
@pytest.mark.slow
@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, marks=[] if entry.config.n_embed == 1024 else [pytest.mark.nightly])
        for entry in SIZES
    ],
    ids=lambda entry: entry.name,
)
def test_the_native_backend_agrees_with_onnxruntime(entry: CatalogEntry, tmp_path: Path) -> None:
    bundle = export_model(entry, tmp_path / "bundle", weights="seeded", roles=["encode"])
    noise = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), np.uint8)
    found = {}
    for backend in ("native", "onnxruntime"):
        _, session = open_role(bundle, "encode", backend=backend, threads=2)
        with session:
            found[backend] = session.run({"frames": noise}, ["ids", "margins"])
    ids, margins = found["native"]
    assert ids.shape == (1, 16, 16)
    assert 0 <= ids.min() <= ids.max() < entry.config.n_embed
    # Of many rows, many are used.
    assert len(np.unique(ids)) > 20
    comparison = MarginAccumulator()
    comparison.add(ids, margins, *found["onnxruntime"])
    agreement = comparison.result()
    assert agreement.passes("fp32"), agreement


@pytest.mark.full_size
@pytest.mark.slow
def test_the_native_backend_decodes_as_onnxruntime_does(tmp_path: Path) -> None:
    """Decoders differ in the codebook alone; the largest takes 262,144 rows."""
    entry = next(entry for entry in ENTRIES if entry.config.n_embed == 262144)
    bundle = export_model(entry, tmp_path / "bundle", weights="seeded", roles=["decode"])
    ids = np.random.default_rng(0).integers(0, entry.config.n_embed, (1, 16, 16), np.int32)
    found = {}
    for backend in ("native", "onnxruntime"):
        _, session = open_role(bundle, "decode", backend=backend, threads=2)
        with session:
            (found[backend],) = session.run({"ids": ids}, ["frames"])
    assert found["native"].shape == (1, 256, 256, 3)
    comparison = PixelAccumulator()
    comparison.add(found["native"], found["onnxruntime"], ["noise"])
    agreement = comparison.result()
    assert agreement.max <= PIXEL_LIMITS["fp32"].max
    assert agreement.rms <= PIXEL_LIMITS["fp32"].rms
