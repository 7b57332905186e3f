"""Which roles of a model an export holds: both by default, one alone, one added to the other."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from seeded_checkpoints import TINY, TINY_IBQ, published_tensors, write_checkpoint

from magvit_export.catalog import find_model
from magvit_export.checkpoints.reading import CheckpointError
from magvit_export.checkpoints.seeded import seeded_array
from magvit_export.exporting import ExportedRole, export_model
from magvit_export.families.family import ClipSizes
from magvit_runtime import open_bundle
from magvit_runtime.bundle.manifest import Precision, Role
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


@pytest.fixture(scope="module")
def both_precisions(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("both") / "bundle"))
    export_model(PRESET, path, weights="seeded", config=TINY, precision="fp16")
    return path


def stored_tensors(path: Path, precision: Precision) -> dict[tuple[str, int], bytes]:
    """The tensors of a precision's graphs, by file and place; those in the graphs left out."""
    found: dict[tuple[str, int], bytes] = {}
    for role in ("encode", "decode"):
        _, graph = open_bundle(path).graph(role, precision)
        model = onnx.load(path / graph.file, load_external_data=False)
        kept = [ExternalDataInfo(t) for t in model.graph.initializer if uses_external_data(t)]
        assert {info.location for info in kept} == set(graph.data)
        for info in kept:
            data = (path / info.location).read_bytes()
            found[info.location, info.offset] = data[info.offset : info.offset + info.length]
    return found


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["both_precisions", "tiny_ibq_bundle"])
def test_no_tensor_is_stored_twice_in_a_precision(
    name: str, precision: Precision, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(name)
    tensors = stored_tensors(path, precision)
    assert set(Counter(tensors.values()).values()) == {1}
    files = {file for file, _ in tensors}
    assert sum((path / file).stat().st_size for file in files) == sum(map(len, tensors.values()))


def test_all_graphs_of_a_codebook_read_it_from_one_file(tiny_ibq_bundle: Path) -> None:
    graphs = open_bundle(tiny_ibq_bundle).manifest.graphs
    assert {role: set(made) for role, made in graphs.items()} == {
        "encode": {"fp32", "fp16"},
        "decode": {"fp32", "fp16"},
    }
    for role, made in graphs.items():
        for precision, graph in made.items():
            assert graph.data == (f"{role}.{precision}.data", "codebook.data")
    rows = np.fromfile(tiny_ibq_bundle / "codebook.data", np.float32)
    expected = seeded_array("quantize.embedding.weight", (TINY_IBQ.n_embed, TINY_IBQ.embed_dim))
    np.testing.assert_array_equal(rows.reshape(expected.shape), expected)


def test_a_codebooks_decoder_joins_its_encoder(tiny_ibq_bundle: Path, tmp_path: Path) -> None:
    """The file that both read is as it was, and so are the encoder's digest and stamps."""
    entry, path = find_model("ibq-1024"), tmp_path / "bundle"
    export_model(entry, path, weights="seeded", roles=["encode"], config=TINY_IBQ)
    alone = digests(path)
    assert alone.keys() == {"encode.fp32.onnx", "encode.fp32.data", "codebook.data"}
    export_model(entry, path, weights="seeded", roles=["decode"], config=TINY_IBQ)
    assert alone.items() < digests(path).items() < digests(tiny_ibq_bundle).items()


@pytest.mark.parametrize("left_out", ["quant_conv", "post_quant_conv", "quantize"])
def test_a_part_of_a_side_is_refused(left_out: str, tmp_path: Path) -> None:
    """A side without the conv at the codebook, or without the codebook, is none."""
    tensors = {
        key: value
        for key, value in published_tensors(TINY_IBQ).items()
        if not key.removeprefix("model_ema.").startswith(left_out)
    }
    checkpoint = write_checkpoint(tmp_path / "part.ckpt", tensors)
    with pytest.raises(CheckpointError, match=f"lacks(.|\n)*{left_out}"):
        export_model(
            find_model("ibq-1024"), tmp_path / "no", weights=str(checkpoint), config=TINY_IBQ
        )
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("side", "conv"), [("encode", "quant_conv"), ("decode", "post_quant_conv")]
)
def test_a_side_with_its_codebook_exports_that_side(side: Role, conv: str, tmp_path: Path) -> None:
    kept = (f"{side}r", conv, "quantize")
    tensors = {
        key: value
        for key, value in published_tensors(TINY_IBQ).items()
        if key.removeprefix("model_ema.").startswith(kept)
    }
    checkpoint = write_checkpoint(tmp_path / "side.ckpt", tensors)
    entry, output = find_model("ibq-1024"), tmp_path / "bundle"
    bundle = export_model(entry, output, weights=str(checkpoint), config=TINY_IBQ)
    assert list(bundle.manifest.graphs) == [side]
