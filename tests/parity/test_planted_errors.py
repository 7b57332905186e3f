"""Errors that an export could make are planted in a bundle; `magvit verify` must see each.

The graphs are edited and their digests recorded anew, so that only tokens can tell.
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
from magvit_export.checkpoint import Variant
from magvit_export.cli.verify import verify
from magvit_export.exporting import ClipSizes, export_tokenizer
from magvit_runtime import open_bundle

SIZES = ClipSizes(frames=5, height=16, width=16)
GRAPH = "encoder.fp32.onnx"


def export(path: Path, weights: str, variant: Variant | None = None) -> Path:
    entry = find_model("trajectory-small")
    export_tokenizer(entry, path, weights=weights, variant=variant, config=TINY, sizes=SIZES)
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
    for name, record in file_records([bundle / GRAPH, bundle / f"{GRAPH}.data"]).items():
        manifest["files"][name] = {"size": record.size, "sha256": record.sha256}
    (bundle / "bundle.json").write_text(json.dumps(manifest))


def plant(bundle: Path, edit: Callable[[onnx.ModelProto], int]) -> None:
    model = onnx.load(bundle / GRAPH)
    assert edit(model) > 0
    (bundle / f"{GRAPH}.data").unlink()
    onnx.save(model, bundle / GRAPH, save_as_external_data=True, location=f"{GRAPH}.data")
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
    """The time padding of every conv behind the clip: as much of it, on the wrong side."""
    count = 0
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "pads" and attribute.ints[0] == 2:
                attribute.ints[0], attribute.ints[3] = 0, 2
                count += 1
    return count


def judged(bundle: Path, **options: Any) -> dict[str, Any]:
    """Facts of the only encoder, which must have failed and left no stamp."""
    outcome = verify(bundle, against="pytorch", batch_sizes="1", **options)
    (facts,) = outcome.facts["encoders"]
    assert outcome.passed is facts["passed"]
    assert bool(open_bundle(bundle).manifest.parity) is outcome.passed
    return facts


def test_without_an_error_it_passes(bundle: Path) -> None:
    facts = judged(bundle)
    assert facts["passed"]
    assert facts["rms"] < 5e-6


@pytest.mark.parametrize("error", [wrong_epsilon, transposed_weight, pad_behind])
def test_wrong_latents_are_seen(bundle: Path, error: Callable[[onnx.ModelProto], int]) -> None:
    plant(bundle, error)
    facts = judged(bundle)
    assert not facts["passed"]
    assert facts["rms"] > 10 * 5e-5
    assert facts["wrong_ids"] == 0


def test_ids_with_the_most_significant_bit_first_are_seen(bundle: Path) -> None:
    """The latents are right to the last digit."""
    plant(bundle, most_significant_bit_first)
    facts = judged(bundle)
    assert not facts["passed"]
    assert facts["rms"] < 5e-6
    assert facts["wrong_ids"] > 0.9 * facts["tokens"]


def test_raw_instead_of_ema_weights_are_seen(tmp_path: Path) -> None:
    checkpoint = str(write_checkpoint(tmp_path / "tiny.ckpt", published_tensors(TINY)))
    ema = export(tmp_path / "ema", checkpoint)
    assert judged(ema, weights=checkpoint)["passed"]
    raw = export(tmp_path / "raw", checkpoint, "raw")
    for name in (GRAPH, f"{GRAPH}.data"):
        shutil.copy(raw / name, ema / name)
    record_digests(ema)
    facts = judged(ema, weights=checkpoint)
    assert not facts["passed"]
    assert facts["rms"] > 0.1
