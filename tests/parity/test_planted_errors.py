"""Errors that an export could make are planted in a bundle; `magvit verify` must see each.

With `--bisect` it must name the modules that they were planted in.

The graphs are edited and their digests recorded again, so that only tokens can show the error.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from seeded_checkpoints import TINY, published_tensors, write_checkpoint

from magvit_export.bundle_writer import file_records
from magvit_export.catalog import find_model
from magvit_export.checkpoints.reading import Variant
from magvit_export.cli.verify import verify
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_export.onnx.stages import StagedGraph
from magvit_export.verification.bisection import bisect_bundle
from magvit_export.verification.islands import largest_own_errors, measure_islands
from magvit_export.verification.pytorch_reference import pytorch_reference, pytorch_role
from magvit_runtime import open_bundle
from magvit_runtime.clips.samples import verification_clips

SIZES = ClipSizes(frames=5, height=16, width=16)
GRAPH, DATA = "encode.fp32.onnx", "encode.fp32.data"


def export(path: Path, weights: str, variant: Variant | None = None) -> Path:
    entry = find_model("trajectory-small")
    export_model(
        entry, path, weights=weights, roles=["encode"], variant=variant, config=TINY, sizes=SIZES
    )
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("planted") / "bundle", "seeded")


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "bundle")


def record_digests(bundle: Path) -> None:
    """What an export that makes the same error would have recorded."""
    manifest = json.loads((bundle / "bundle.json").read_text())
    for name, record in file_records([bundle / GRAPH, bundle / DATA]).items():
        manifest["files"][name] = {"size": record.size, "sha256": record.sha256}
    (bundle / "bundle.json").write_text(json.dumps(manifest))


def plant(bundle: Path, edit: Callable[[onnx.ModelProto], int]) -> None:
    model = onnx.load(bundle / GRAPH)
    assert edit(model) > 0
    (bundle / DATA).unlink()
    onnx.save(model, bundle / GRAPH, save_as_external_data=True, location=DATA)
    record_digests(bundle)


def wrong_epsilon(model: onnx.ModelProto) -> int:
    """torch.nn.GroupNorm's own default, ten times the model's."""
    attributes = [
        attribute
        for node in model.graph.node
        if node.op_type == "GroupNormSiLU"
        for attribute in node.attribute
        if attribute.name == "epsilon"
    ]
    for attribute in attributes:
        attribute.f = 1e-5
    return len(attributes)


def transposed_weight(model: onnx.ModelProto) -> int:
    """One conv of one block, its input and output channels exchanged."""
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.ndim == 5 and weights.shape[0] == weights.shape[1]:
            swapped = np.ascontiguousarray(weights.swapaxes(0, 1))
            tensor.CopyFrom(numpy_helper.from_array(swapped, tensor.name))
            return 1
    return 0


def most_significant_bit_first(model: onnx.ModelProto) -> int:
    (function,) = (function for function in model.functions if function.name == "LFQ")
    (constant,) = (node for node in function.node if node.output[0] == "all_weights")
    tensor = constant.attribute[0].t
    weights = numpy_helper.to_array(tensor).copy()
    weights[: TINY.z_channels] = weights[: TINY.z_channels][::-1]
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    return 1


def pad_behind(model: onnx.ModelProto) -> int:
    """The time padding of every conv moves to the end of the clip: same size, wrong side."""
    count = 0
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "pads" and attribute.ints[0] == 2:
                attribute.ints[0], attribute.ints[3] = 0, 2
                count += 1
    return count


def judged(bundle: Path, **options: Any) -> dict[str, dict[str, Any]]:
    """Facts about the only graph by backend; if one backend fails, none has a stamp."""
    outcome = verify(bundle, against="pytorch", batch_sizes="1", **options)
    facts = {facts["backend"]: facts for facts in outcome.facts["encoders"]}
    assert facts.keys() == {"native", "onnxruntime"}
    assert outcome.passed is all(each["passed"] for each in facts.values())
    assert bool(open_bundle(bundle).manifest.stamps) is outcome.passed
    return facts


def located(bundle: Path, **options: Any) -> tuple[list[str], str]:
    """The modules that are named as wrong, and the text for the user."""
    outcome = verify(bundle, batch_sizes="1", bisect=True, **options)
    (found,) = outcome.facts["bisection"]
    return list(found["wrong"]), outcome.text


def test_without_an_error_it_passes(bundle: Path) -> None:
    for facts in judged(bundle).values():
        assert facts["passed"]
        assert facts["rms"] < 1e-5


@pytest.mark.parametrize("error", [wrong_epsilon, transposed_weight, pad_behind])
def test_wrong_latents_are_seen(bundle: Path, error: Callable[[onnx.ModelProto], int]) -> None:
    plant(bundle, error)
    for facts in judged(bundle).values():
        assert not facts["passed"]
        assert facts["rms"] > 10 * 5e-5
        assert facts["wrong_ids"] == 0


CAUSAL_CONVS = [
    "encoder.conv_in",
    "encoder.down.0.block.0.conv1",
    "encoder.down.0.block.0.conv2",
    "encoder.down.0.downsample",
    "encoder.down.1.block.0.conv1",
    "encoder.down.1.block.0.conv2",
    "encoder.mid_block.0.conv1",
    "encoder.mid_block.0.conv2",
]


@pytest.mark.parametrize(
    ("error", "modules"),
    [
        (transposed_weight, ["encoder.down.0.block.0.conv1"]),
        (most_significant_bit_first, ["quantizer"]),
        (pad_behind, CAUSAL_CONVS),
    ],
)
def test_errors_are_located(
    bundle: Path, error: Callable[[onnx.ModelProto], int], modules: list[str]
) -> None:
    plant(bundle, error)
    wrong, text = located(bundle)
    assert wrong == modules
    assert f"fp32: WRONG by themselves: {', '.join(modules)}" in text


def test_what_lies_behind_an_error_is_not_blamed_for_it(bundle: Path) -> None:
    plant(bundle, transposed_weight)
    outcome = verify(bundle, batch_sizes="1", bisect=True)
    (found,) = outcome.facts["bisection"]
    stages = {stage["module"]: stage for stage in found["stages"]}
    assert stages["encoder.down.0.block.0.norm1"]["accumulated"] < 1e-5
    assert stages["encoder.down.0.block.0.conv1"]["own"] > 0.5
    last = stages["encoder.conv_out"]
    assert last["own"] < 1e-6 < 0.1 < last["accumulated"]


def test_an_island_around_the_error_mends_it(bundle: Path) -> None:
    """Islands are measured, not guessed: with the module in PyTorch, its error is gone."""
    plant(bundle, transposed_weight)
    opened = open_bundle(bundle)
    encoder = pytorch_role(opened, "encode")
    (found,) = bisect_bundle(opened, encoder)
    module, modules = encoder.module, [stage.module for stage in found.stages[1:-1]]
    graph = StagedGraph(bundle / GRAPH, "fp32", modules)
    clips = verification_clips((5, 16, 16, 3))
    expected = pytorch_reference(opened, encoder).run(clips)["latents"]
    tried = ["encoder.mid_block.0", "encoder.down.0.block.0"]
    assert largest_own_errors({s.module: s.own for s in found.stages}, module)[0] == tried[1]
    best, other = measure_islands(graph, module, tried, [clips], expected)
    assert best.module == tried[1]
    assert best.rms < 5e-5 < 0.1 < other.rms


def test_a_wrong_epsilon_is_located(bundle: Path) -> None:
    """Only norms are wrong, the first one most: epsilon is added to the smallest variance there."""
    plant(bundle, wrong_epsilon)
    wrong, _ = located(bundle)
    assert wrong[0] == "encoder.down.0.block.0.norm1"
    assert all(".norm" in module for module in wrong)


def test_nothing_is_located_where_nothing_is_wrong(bundle: Path) -> None:
    wrong, text = located(bundle)
    assert wrong == []
    assert "fp32: no module is wrong by itself" in text


def test_ids_with_the_most_significant_bit_first_are_seen(bundle: Path) -> None:
    """The latents are right to the last digit; the native backend has its own quantizer."""
    plant(bundle, most_significant_bit_first)
    judgements = judged(bundle)
    assert judgements["native"]["passed"]
    facts = judgements["onnxruntime"]
    assert not facts["passed"]
    assert facts["rms"] < 5e-6
    assert facts["wrong_ids"] > 0.9 * facts["tokens"]


@pytest.mark.slow
def test_raw_instead_of_ema_weights_are_seen(tmp_path: Path) -> None:
    checkpoint = str(write_checkpoint(tmp_path / "tiny.ckpt", published_tensors(TINY)))
    ema = export(tmp_path / "ema", checkpoint)
    assert all(facts["passed"] for facts in judged(ema, weights=checkpoint).values())
    raw = export(tmp_path / "raw", checkpoint, "raw")
    for name in (GRAPH, DATA):
        shutil.copy(raw / name, ema / name)
    record_digests(ema)
    for facts in judged(ema, weights=checkpoint).values():
        assert not facts["passed"]
        assert facts["rms"] > 0.1
    _, text = located(ema, weights=checkpoint)
    assert "every module with weights is WRONG: these are other weights" in text
