"""Bisection: modules' own errors, separate from those of their inputs; islands of float32."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from seeded_checkpoints import TINY

from magvit_export.catalog import find_model
from magvit_export.cli.verify import verify
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.onnx.stages import NORMALIZATION, QUANTIZER, StagedGraph, StageValues
from magvit_export.verification.bisection import CLIPS, Bisection, StageError, bisect_bundle
from magvit_export.verification.pytorch_reference import pytorch_reference, pytorch_role
from magvit_runtime import BundleError, InputError, Tokenizer, open_bundle
from magvit_runtime.agreement.signs import compare_latents
from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.clips.samples import CLIP_NAMES, verification_clips

SHAPE = (5, 16, 16, 3)
IMAGES = TokenizerConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1, dims=2)
BLOCK_LAYERS = ("norm1", "conv1", "norm2", "conv2")


def export(
    path: Path,
    *precisions: Precision,
    config: TokenizerConfig = TINY,
    residual: Literal["fp32"] | None = None,
) -> Path:
    sizes = ClipSizes(frames=None if config.dims == 2 else 5, height=16, width=16)
    for precision in precisions:
        export_model(
            find_model("trajectory-small"),
            path,
            weights="seeded",
            roles=["encode"],
            config=config,
            precision=precision,
            residual=residual,
            sizes=sizes,
        )
    return path


def bisect(bundle: Path) -> dict[str, Bisection]:
    opened = open_bundle(bundle)
    return {one.precision: one for one in bisect_bundle(opened, pytorch_role(opened, "encode"))}


def by_module(found: Bisection) -> dict[str, StageError]:
    return {stage.module: stage for stage in found.stages}


def bisected_clips() -> NDArray[np.uint8]:
    return verification_clips(SHAPE)[[CLIP_NAMES.index(name) for name in CLIPS]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("bisection") / "bundle", "fp32", "fp16", "bf16")


@pytest.fixture(scope="module")
def found(bundle: Path) -> dict[str, Bisection]:
    return bisect(bundle)


def test_stages_are_the_modules_in_the_order_in_which_they_run(
    found: dict[str, Bisection],
) -> None:
    blocks = ("encoder.down.0.block.0", "encoder.down.1.block.0", "encoder.mid_block.0")
    layers = [[f"{block}.{layer}" for layer in BLOCK_LAYERS] for block in blocks]
    assert [stage.module for stage in found["fp32"].stages] == [
        NORMALIZATION,
        "encoder.conv_in",
        *layers[0],
        blocks[0],
        "encoder.down.0.downsample",
        *layers[1],
        f"{blocks[1]}.nin_shortcut",
        blocks[1],
        *layers[2],
        blocks[2],
        "encoder.norm_out",
        "encoder.conv_out",
        QUANTIZER,
    ]


def test_sound_graphs_have_small_errors_everywhere(found: dict[str, Bisection]) -> None:
    for precision, largest in (("fp32", 1e-6), ("fp16", 6e-4)):
        *values, quantizer = found[precision].stages
        assert all(0 < stage.own < largest for stage in values), precision
        assert quantizer.own == 0
        assert found[precision].wrong == ()
    # The bisected graph really was half precision, not float32 under another name.
    assert by_module(found["fp16"])["encoder.conv_in"].own > 1e-4


def test_the_last_boundary_has_the_error_of_the_whole_graph(
    bundle: Path, found: dict[str, Bisection]
) -> None:
    clips = bisected_clips()
    opened = open_bundle(bundle)
    expected = pytorch_reference(opened, pytorch_role(opened, "encode")).run(clips)["latents"]
    with Tokenizer.open(bundle, precision="fp32", backend="onnxruntime") as tokenizer:
        whole = compare_latents(tokenizer.latents(clips), expected)
    assert found["fp32"].rms == pytest.approx(whole.rms, rel=0.5)


def test_stages_in_a_row_are_the_graph(bundle: Path, found: dict[str, Bisection]) -> None:
    clips = bisected_clips()
    modules = [stage.module for stage in found["fp32"].stages[1:-1]]
    graph = StagedGraph(bundle / "encode.fp32.onnx", "fp32", modules)
    values: StageValues[NDArray[Any]] = StageValues(graph, clips)
    for stage in graph.stages:
        (result,) = graph.run(stage, values.take(stage))
        values.give(stage, result)
    with Tokenizer.open(bundle, precision="fp32", backend="onnxruntime") as tokenizer:
        np.testing.assert_array_equal(result, tokenizer(clips))


def test_each_stage_holds_its_own_weights_alone(bundle: Path, found: dict[str, Bisection]) -> None:
    modules = [stage.module for stage in found["fp32"].stages[1:-1]]
    graph = StagedGraph(bundle / "encode.fp32.onnx", "fp32", modules)
    held = {stage.module: graph.model_of(stage).graph.initializers for stage in graph.stages}
    whole = onnx.load(bundle / "encode.fp32.onnx", load_external_data=False)
    names = sorted(name for weights in held.values() for name in weights)
    assert names == sorted(tensor.name for tensor in whole.graph.initializer)
    assert list(held["encoder.conv_in"]) == ["encoder.conv_in.conv_1.weight"]


def test_islands_of_float32_are_measured(found: dict[str, Bisection]) -> None:
    islands = found["fp16"].islands
    assert len({island.module for island in islands}) == 3
    assert [island.rms for island in islands] == sorted(island.rms for island in islands)
    assert 0.5 * found["fp16"].rms < islands[0].rms < found["fp16"].rms
    assert found["fp32"].islands == ()


def test_growth_is_along_the_main_path(found: dict[str, Bisection]) -> None:
    growth = found["fp16"].growth
    assert len(growth) == 3
    assert all(before.accumulated < behind.accumulated for before, behind in growth)
    names = {stage.module for pair in growth for stage in pair}
    assert not any(name.endswith(BLOCK_LAYERS) for name in names)


def test_what_onnx_runtime_cant_run_is_named(found: dict[str, Bisection]) -> None:
    assert "Could not find an implementation for Conv" in found["bf16"].why_not


@pytest.mark.slow
def test_a_residual_stream_in_float32_adds_without_rounding(tmp_path: Path) -> None:
    found = bisect(export(tmp_path / "bundle", "fp16", residual="fp32"))["fp16"]
    assert found.wrong == ()
    stages = by_module(found)
    assert stages["encoder.mid_block.0"].own < 1e-6 < stages["encoder.mid_block.0.conv2"].own


def test_images(tmp_path: Path) -> None:
    found = bisect(export(tmp_path / "bundle", "fp32", config=IMAGES))["fp32"]
    assert found.wrong == ()
    assert found.rms < 5e-5
    assert by_module(found)["encoder.down.0.block.0.conv1"].own > 0


def test_a_graph_of_other_modules_is_refused(bundle: Path) -> None:
    with pytest.raises(BundleError, match="aren't named after this model's modules"):
        StagedGraph(bundle / "encode.fp32.onnx", "fp32", ["encoder.elsewhere"])


def test_another_wiring_is_refused(bundle: Path, found: dict[str, Bisection]) -> None:
    modules = [stage.module for stage in found["fp32"].stages[1:-1]]
    graph = StagedGraph(bundle / "encode.fp32.onnx", "fp32", modules)
    values: StageValues[NDArray[Any]] = StageValues(graph, bisected_clips())
    values.take(graph.stages[0])
    with pytest.raises(BundleError, match=r"encoder\.conv_in takes what the model hasn't computed"):
        values.take(graph.stages[1])


def test_only_pytorch_has_modules(bundle: Path) -> None:
    with pytest.raises(InputError) as error:
        verify(bundle, against="fp32", bisect=True)
    assert str(error.value) == (
        "--bisect compares with PyTorch's modules: found --against fp32. Fix: leave --against out"
    )


@pytest.mark.slow
def test_the_report_shows_the_error_behind_each_module(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    page = tmp_path / "report.html"
    verify(copy, batch_sizes="1", bisect=True, report=page)
    text = page.read_text(encoding="utf-8")
    assert "Error by stage" in text
    assert "encoder.mid_block.0.conv2" in text
