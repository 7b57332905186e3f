"""Engines of features: of vision transformers, and of tokenizers' encoders with our plugins."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from seeded_checkpoints import TINY

from magvit_export.catalog import find_model
from magvit_export.engines.build import build_engine
from magvit_export.engines.options import BuildOptions
from magvit_export.engines.planning import plan_build
from magvit_export.exporting import export_model
from magvit_runtime import open_bundle
from magvit_runtime.hardware.machine import Machine
from magvit_runtime.native_libraries.lookup import plugin_library

pytestmark = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13",
)


@pytest.mark.parametrize("bundle", ["videomae_bundle", "clip_bundle"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_vision_transformer_is_built(
    bundle: str, precision: str, request: pytest.FixtureRequest
) -> None:
    opened = open_bundle(request.getfixturevalue(bundle))
    options = BuildOptions("tensorrt-rtx", "features", precision, profile="1/2/4")
    plan = plan_build(opened, options, Machine())
    assert plan.key.role == "features"
    assert plan.key.plugin_interface is None
    sizes = opened.graph("features")[1].inputs[0].shape[1:]
    assert plan.key.profiles[0]["frames"].maximum == (4, *sizes)
    record = build_engine(opened, plan).engine.record
    assert record.plugin_layers == {}
    # Softmax and normalisations are islands of float32.
    islands = [layer for layer in record.layers if "SOFTMAX" in layer.type]
    assert islands
    assert {layer.precision for layer in islands} == {"FLOAT"}


@pytest.mark.skipif(
    plugin_library() is None,
    reason="libmagvit_plugins.so was not built: it needs nvcc and TensorRT's headers",
)
def test_a_tokenizers_features_are_built_with_our_plugins(tmp_path: Path) -> None:
    entry = find_model("trajectory-small")
    bundle = export_model(
        entry, tmp_path, weights="seeded", roles=["encode", "features"], config=TINY
    )
    options = BuildOptions(
        "tensorrt-rtx", "features", "fp32", frames=5, height=32, width=32, profile="1/1/2"
    )
    plan = plan_build(bundle, options, Machine())
    assert plan.key.profiles[0]["frames"].optimum == (1, 5, 32, 32, 3)
    count = bundle.graph("features")[1].operators["GroupNormSiLU"]
    record = build_engine(bundle, plan).engine.record
    assert record.plugin_layers == {"GroupNormSiLU": count}
