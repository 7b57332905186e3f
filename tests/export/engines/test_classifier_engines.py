"""TensorRT-RTX builds of classifiers, alone and in one graph with the encoder; no GPU is needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from magvit_export.engines import BuildOptions, build_engine, plan_build
from magvit_export.training.classifier import TrajectoryClassifier
from magvit_export.training.classifier_export import export_classifier
from magvit_runtime import open_bundle
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.bundle.engine_records import ShapeRange
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.hardware.machine import Machine
from magvit_runtime.native_libraries.lookup import plugin_library
from magvit_runtime.results.token_files import token_file_info

GRID = (3, 8, 12)


@pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13",
)
@pytest.mark.skipif(
    plugin_library() is None,
    reason="libmagvit_plugins.so was not built: it needs nvcc and TensorRT's headers",
)
def test_both_ways_have_engines_until_there_is_another_classifier(engine_bundle: Path) -> None:
    """Sizes are the graph's own, whatever the options say."""

    def train(seed: int) -> None:
        torch.manual_seed(seed)
        bundle = open_bundle(engine_bundle)
        head = TrajectoryClassifier(num_classes=3, grid=GRID)
        export_classifier(bundle, head, ("a", "b", "c"), token_file_info(bundle, GRID), "bits", {})

    train(0)
    expected: dict[Role, tuple[str, tuple[int, ...], dict[str, int]]] = {
        "classify": ("fp32", GRID, {}),
        "classify-clips": ("fp16", (3, 16, 24, 3), {"GroupNormSiLU": 7, "LFQ": 1}),
    }
    for role, (precision, item, plugins) in expected.items():
        options = BuildOptions(flavour="tensorrt-rtx", role=role, profile="1/2/4")
        opened = open_bundle(engine_bundle)
        record = build_engine(opened, plan_build(opened, options, Machine())).engine.record
        assert (record.key.role, record.key.precision) == (role, precision)
        (shapes,) = record.key.profiles[0].values()
        assert shapes == ShapeRange((1, *item), (2, *item), (4, *item))
        assert record.plugin_layers == plugins
        gemm = next(layer for layer in record.layers if "head/Gemm" in layer.name)
        # Also after an encoder in half precision.
        assert gemm.precision == "FLOAT"
        (unfit,) = [one for one in list_candidates(opened, role).unfit if one.is_engine]
        assert "GPU" in unfit.why
    train(1)
    for role in expected:
        unfits = list_candidates(open_bundle(engine_bundle), role).unfit
        (unfit,) = [one for one in unfits if one.is_engine]
        assert "the bundle's ONNX graph: built for" in unfit.why
        assert unfit.fix.endswith(f"--role {role}")
