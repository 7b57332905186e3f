"""Which roles of a model an export holds: both by default, one alone, one added to the other."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import onnx
import pytest
from onnx.external_data_helper import load_external_data_for_model
from seeded_checkpoints import TINY, published_tensors, write_checkpoint

from magvit_export.catalog import find_model
from magvit_export.checkpoints.reading import CheckpointError
from magvit_export.exporting import ExportedRole, export_model
from magvit_export.families.family import ClipSizes
from magvit_runtime import open_bundle
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.errors import InputError

PRESET = find_model("trajectory-small")


def digests(path: Path) -> dict[str, str]:
    files = json.loads((path / "bundle.json").read_text())["files"]
    return {name: record["sha256"] for name, record in files.items()}


def test_the_manifest_says_what_a_decoder_takes_and_gives(tiny_bundle: Path) -> None:
    manifest = json.loads((tiny_bundle / "bundle.json").read_text())
    graph = manifest["graphs"]["decode"]["fp32"]
    (ids,), (frames,) = graph["inputs"], graph["outputs"]
    assert (ids["kind"], ids["dtype"], ids["shape"]) == ("ids", "int32", ["batch", "t", "h", "w"])
    assert (ids["minimum"], ids["maximum"]) == (0, 2**18 - 1)
    assert (frames["kind"], frames["dtype"]) == ("pixels", "uint8")
    assert frames["shape"] == ["batch", "1*(t-1)+1", "2*h", "2*w", 3]
    assert graph["postprocessing"] == {
        "layout": "NTHWC",
        "color": "RGB",
        "formula": "floor((clip(x, -1, 1) + 1) * 127.5 + 0.5)",
    }
    assert graph["work"]["shapes"] == {"ids": [1, 17, 64, 64]}


def test_sizes_that_are_fixed_are_those_of_the_decoded_frames(tmp_path: Path) -> None:
    sizes = ClipSizes(batch=2, frames=9, height=32, width=48)
    bundle = export_model(PRESET, tmp_path, weights="seeded", roles=["decode"], sizes=sizes)
    _, graph = bundle.graph("decode")
    assert graph.inputs[0].shape == (2, 3, 4, 6)
    assert graph.outputs[0].shape == (2, 9, 32, 48, 3)


def test_a_decoder_joins_a_bundle_of_the_encoder_alone(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    export_model(PRESET, path, weights="seeded", roles=["encode"], config=TINY)
    alone = digests(path)
    assert alone.keys() == {"encode.fp32.onnx", "encode.fp32.data"}
    told: list[ExportedRole] = []
    export_model(PRESET, path, weights="seeded", roles=["decode"], config=TINY, advance=told.append)
    assert digests(path) == digests(tiny_bundle)
    assert alone.items() < digests(path).items()
    assert [one.role for one in told] == ["decode"]
    decode = ("decode.fp32.onnx", "decode.fp32.data")
    assert told[0].size == sum((path / name).stat().st_size for name in decode)


def test_a_decoder_of_other_weights_does_not_join(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    export_model(PRESET, path, weights="seeded", roles=["encode"], config=TINY)
    before = digests(path)
    with pytest.raises(InputError, match="another model or other weights"):
        export_model(PRESET, path, weights="seeded:1", roles=["decode"], config=TINY)
    assert digests(path) == before


@pytest.mark.parametrize(("side", "other"), [("encode", "decode"), ("decode", "encode")])
def test_a_checkpoint_of_one_side_exports_that_side(
    side: Role, other: Role, tmp_path: Path
) -> None:
    tensors = {
        key: value
        for key, value in published_tensors(TINY).items()
        if key.removeprefix("model_ema.").startswith(f"{side}r")
    }
    checkpoint = write_checkpoint(tmp_path / "side.ckpt", tensors)
    bundle = export_model(PRESET, tmp_path / "bundle", weights=str(checkpoint), config=TINY)
    assert list(bundle.manifest.graphs) == [side]
    with pytest.raises(CheckpointError, match="lacks"):
        export_model(PRESET, tmp_path / "no", weights=str(checkpoint), roles=[other], config=TINY)
    assert not (tmp_path / "no").exists()


def test_a_checkpoint_of_neither_side_is_refused(tmp_path: Path) -> None:
    tensors = {"model_ema.decay": published_tensors(TINY)["model_ema.decay"]}
    checkpoint = write_checkpoint(tmp_path / "none.ckpt", tensors)
    with pytest.raises(CheckpointError, match="lacks"):
        export_model(PRESET, tmp_path / "bundle", weights=str(checkpoint), config=TINY)


def test_no_tensor_is_stored_twice_in_a_precision(tiny_bundle: Path, tmp_path: Path) -> None:
    """Encoder and decoder share no weights, so each has a file of its own."""
    path = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    export_model(PRESET, path, weights="seeded", config=TINY, precision="fp16")
    bundle = open_bundle(path)
    for precision in ("fp32", "fp16"):
        stored: Counter[bytes] = Counter()
        for role in ("encode", "decode"):
            _, graph = bundle.graph(role, precision)
            model = onnx.load(path / graph.file, load_external_data=False)
            load_external_data_for_model(model, str(path))
            sizes = [tensor.raw_data for tensor in model.graph.initializer]
            stored.update(data for data in sizes if len(data) > 64)
            data = sum((path / name).stat().st_size for name in graph.data)
            # Beyond the tensors there is only what aligns them.
            assert data < 1.05 * sum(map(len, sizes)) + 4096 * len(sizes)
        assert set(stored.values()) == {1}
