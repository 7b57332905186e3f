"""Bundles of IBQ: what they hold, and every command that takes them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import pytest
import torch
from onnx import TensorProto
from seeded_checkpoints import TINY_IBQ, model_shapes, published_tensors, write_checkpoint

from magvit_export.catalog import find_model
from magvit_export.checkpoints.keys import ema_name
from magvit_export.checkpoints.reading import Variant
from magvit_export.checkpoints.seeded import seeded_array
from magvit_export.exporting import export_model
from magvit_export.families.ibq.tokenizer import empty_tokenizer
from magvit_export.layers.pixels import to_bytes
from magvit_runtime import Detokenizer, InputError, Tokenizer, open_bundle
from magvit_runtime.backends.native.backend import why_no_cuda
from magvit_runtime.backends.opening import open_role
from magvit_runtime.bundle.manifest import MarginMetrics
from magvit_runtime.hardware.machine import Machine
from magvit_runtime.quantizers.specs import CodebookSpec
from magvit_runtime.results.token_files import read_tokens

IMAGES = np.random.default_rng(5).integers(0, 256, (3, 48, 31, 3), np.uint8)


def magvit(*arguments: object, code: int = 0) -> dict[str, Any]:
    main = "from magvit_runtime.cli.main import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", main, "--json", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == code, run.stderr
    facts: dict[str, Any] = json.loads(run.stdout or json.dumps({"error": run.stderr}))
    return facts


def test_the_manifest_says_what_it_is(tiny_ibq_bundle: Path) -> None:
    manifest = open_bundle(tiny_ibq_bundle).manifest
    assert manifest.component.family == "ibq"
    assert manifest.tokens is not None
    assert manifest.tokens.quantizer == CodebookSpec(TINY_IBQ.n_embed)
    graph = manifest.graphs["encode"]["fp32"]
    assert graph.operators == {
        "GroupNormSiLU": 9,
        "GroupNorm": 2,
        "SpatialAttention": 2,
        "CodebookArgmax": 1,
    }
    assert [(spec.name, spec.kind) for spec in graph.outputs] == [
        ("ids", "ids"),
        ("margins", "margins"),
        ("latents", "latents"),
    ]
    assert graph.outputs[0].shape == ("batch", "floor(height/2)", "floor(width/2)")
    assert graph.outputs[0].maximum == 5999


def test_half_weights_around_islands_of_float32(tiny_ibq_bundle: Path) -> None:
    model = onnx.load(tiny_ibq_bundle / "encode.fp16.onnx", load_external_data=False)
    islands = ("norm", "conv_out", "quant_conv", "quantize")
    for tensor in model.graph.initializer:
        if tensor.name.startswith(("encoder.", "quant")):
            island = any(name in tensor.name for name in islands)
            assert tensor.data_type == (TensorProto.FLOAT if island else TensorProto.FLOAT16)
    assert {output.type.tensor_type.elem_type for output in model.graph.output} == {
        TensorProto.INT32,
        TensorProto.FLOAT,
    }
    # uint8 to float32, float32 to half, and back before the last conv: nothing else is cast.
    assert Counter(node.op_type for node in model.graph.node)["Cast"] == 3
    assert "Pad" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("backend", ["onnxruntime", "native"])
def test_images_to_tokens(tiny_ibq_bundle: Path, backend: str, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    output = tmp_path / "tokens.npz"
    magvit(
        *("tokenize", tiny_ibq_bundle, tmp_path / "images.npy", "-o", output),
        *("--backend", backend),
    )
    table = read_tokens(output)
    assert table.info.quantizer == CodebookSpec(TINY_IBQ.n_embed)
    assert table.tokens.shape == (3, 24, 15)
    with Tokenizer.open(tiny_ibq_bundle, backend=backend) as tokenizer:
        np.testing.assert_array_equal(tokenizer(IMAGES), table.tokens)
        assert tokenizer.latents(IMAGES).shape == (3, TINY_IBQ.embed_dim, 24, 15)
        with pytest.raises(InputError, match="clips don't fit this model"):
            tokenizer(IMAGES[None])


def ways_of(bundle: Path, role: str) -> dict[str, dict[str, Any]]:
    """What doctor says of the ways to run a role, by their names."""
    ways = magvit("doctor", bundle)["ways"]
    return {way["subject"]: way for way in ways if way["role"] == role}


@pytest.mark.slow
def test_verify_and_doctor(tiny_ibq_bundle: Path) -> None:
    facts = magvit("verify", tiny_ibq_bundle)
    assert facts["passed"]
    ran = {one["subject"] for one in facts["encoders"] if one["runs"]}
    assert {"onnxruntime fp32", "onnxruntime fp16", "native fp32"} <= ran
    stamps = open_bundle(tiny_ibq_bundle).manifest.stamps
    for subject in ("onnxruntime fp16", "native fp32"):
        metrics = stamps[f"encode {subject}"].metrics
        assert isinstance(metrics, MarginMetrics)
        assert metrics.outside_margin == 0
    with Tokenizer.open(tiny_ibq_bundle, require_parity=True) as tokenizer:
        assert tokenizer.capabilities.backend == "native"
    ways = ways_of(tiny_ibq_bundle, "encode")
    assert ways["native fp32"]["runs"]
    # Nothing but the machine speaks against a GPU.
    assert ways["native-cuda fp32"]["problem"] == why_no_cuda(Machine(), "fp32")


def test_the_manifest_says_what_a_decoder_is(tiny_ibq_bundle: Path) -> None:
    _, graph = open_bundle(tiny_ibq_bundle).graph("decode")
    assert graph.operators == {"GroupNormSiLU": 13, "GroupNorm": 3, "SpatialAttention": 3}
    (ids,), (frames,) = graph.inputs, graph.outputs
    assert (ids.kind, ids.dtype, ids.shape) == ("ids", "int32", ("batch", "h", "w"))
    assert (ids.minimum, ids.maximum) == (0, TINY_IBQ.n_embed - 1)
    assert (frames.kind, frames.dtype) == ("pixels", "uint8")
    assert frames.shape == ("batch", "2*h", "2*w", 3)
    assert graph.postprocessing is not None
    assert graph.postprocessing.layout == "NHWC"
    assert graph.work is not None
    assert graph.work.shapes == {"ids": (1, 128, 128)}


def test_tokens_to_images(tiny_ibq_bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    tokens = tmp_path / "tokens.npz"
    magvit("tokenize", tiny_ibq_bundle, tmp_path / "images.npy", "-o", tokens)
    decoded = {}
    for backend in ("onnxruntime", "native"):
        output = tmp_path / f"{backend}.npy"
        options = ("--backend", backend, "--precision", "fp32")
        magvit("detokenize", tiny_ibq_bundle, tokens, "-o", output, *options)
        decoded[backend] = np.load(output).astype(np.int64)
    # A column was too few for a token.
    assert decoded["native"].shape == (3, 48, 30, 3)
    errors = np.abs(decoded["native"] - decoded["onnxruntime"])
    assert errors.max() <= 1
    assert np.mean(errors == 0) >= 0.99


@pytest.mark.parametrize("backend", ["onnxruntime", "native"])
@pytest.mark.parametrize("row", [-1, TINY_IBQ.n_embed, 2**31 - 1])
def test_an_id_that_is_no_row(tiny_ibq_bundle: Path, backend: str, row: int) -> None:
    ids = np.full((1, 2, 2), row, np.int32)
    with (
        Detokenizer.open(tiny_ibq_bundle, backend=backend, precision="fp32") as detokenizer,
        pytest.raises(InputError, match="ids"),
    ):
        detokenizer(ids)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["ema", "raw"])
def test_a_decoder_has_one_variants_weights(variant: Variant, tmp_path: Path) -> None:
    """EMA weights are those of the codebook and of both 1x1 convs too."""
    checkpoint = write_checkpoint(tmp_path / "tiny.ckpt", published_tensors(TINY_IBQ))
    entry = find_model("ibq-1024")
    weights = str(checkpoint)
    export_model(entry, tmp_path / "bundle", weights=weights, config=TINY_IBQ, variant=variant)
    state = {
        key: torch.from_numpy(seeded_array(key, shape, name=ema_name(key)))
        if variant == "ema"
        else torch.from_numpy(seeded_array(key, shape))
        for key, shape in model_shapes(TINY_IBQ).items()
    }
    tokenizer = empty_tokenizer(TINY_IBQ)
    tokenizer.load_state_dict(state, assign=True)
    ids = np.random.default_rng(2).integers(0, TINY_IBQ.n_embed, (2, 4, 6), np.int32)
    with torch.inference_mode():
        expected = to_bytes(tokenizer.decode(torch.from_numpy(ids))).numpy()
    with Detokenizer.open(tmp_path / "bundle", backend="native") as detokenizer:
        errors = np.abs(detokenizer(ids).astype(int) - expected)
    assert errors.max() <= 1


@pytest.mark.slow
def test_verify_and_doctor_of_the_decoder(tiny_ibq_bundle: Path) -> None:
    facts = magvit("verify", tiny_ibq_bundle, "--role", "decode")
    assert facts["passed"]
    stamps = open_bundle(tiny_ibq_bundle).manifest.stamps
    assert {"decode onnxruntime fp16", "decode native fp32"} <= stamps.keys()
    with Detokenizer.open(tiny_ibq_bundle, require_parity=True) as detokenizer:
        assert detokenizer.capabilities.backend == "native"
    ways = ways_of(tiny_ibq_bundle, "decode")
    assert ways["native fp32"]["runs"]
    # Nothing but the machine speaks against a GPU.
    assert ways["native-cuda fp32"]["problem"] == why_no_cuda(Machine(), "fp32")


def test_images_that_are_too_small(tiny_ibq_bundle: Path) -> None:
    """Two pixels a token: one pixel gives none."""
    from magvit_runtime import BackendError

    for backend in ("onnxruntime", "native"):
        with (
            Tokenizer.open(tiny_ibq_bundle, backend=backend, precision="fp32") as tokenizer,
            pytest.raises(BackendError),
        ):
            tokenizer(IMAGES[:, :1, :1])


@pytest.mark.slow
def test_bisecting_is_said_to_be_missing(tiny_ibq_bundle: Path) -> None:
    words = "graphs of the family 'ibq' can't be cut in stages"
    assert words in magvit("verify", tiny_ibq_bundle, "--bisect", code=2)["error"]


def test_verify_takes_ids_and_margins_of_a_file(tiny_ibq_bundle: Path, tmp_path: Path) -> None:
    _, session = open_role(open_bundle(tiny_ibq_bundle), "encode", backend="onnxruntime")
    with session:
        ids, margins = session.run({"frames": IMAGES}, ["ids", "margins"])
    file = tmp_path / "reference.npz"
    arrays = {"mine.x": IMAGES, "mine.ids_raw": ids.astype(np.int64), "mine.margins_raw": margins}
    np.savez(file, **arrays)
    bundle = shutil.copytree(tiny_ibq_bundle, tmp_path / "bundle")
    facts = magvit("verify", bundle, "--against", file)
    assert facts["reference"].startswith("ids and margins of raw weights in reference.npz")
    assert facts["passed"]
    sure = tuple(np.argwhere(margins == margins.max())[0])
    arrays["mine.ids_raw"][sure] += 1  # Each of two batch sizes finds it.
    np.savez(file, **arrays)
    facts = magvit("verify", bundle, "--against", file, code=1)
    assert {one["outside_margin"] for one in facts["encoders"] if one["runs"]} == {2}
    del arrays["mine.margins_raw"]
    np.savez(file, **arrays)
    error = magvit("verify", bundle, "--against", file, code=2)["error"]
    assert "expected CASE.x and CASE.ids_raw and CASE.margins_raw, of ibq-1024" in error


def test_openvino_reads_a_graph_with_its_functions_in_line(
    tiny_ibq_bundle: Path, tmp_path: Path
) -> None:
    openvino = pytest.importorskip("openvino", reason="pip install 'magvit-runtime[peers]'")
    model = onnx.inliner.inline_local_functions(onnx.load(tiny_ibq_bundle / "encode.fp32.onnx"))
    onnx.save(model, tmp_path / "inlined.onnx")
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(tmp_path / "inlined.onnx"), "CPU", options)
    found = compiled({"frames": IMAGES})
    _, session = open_role(open_bundle(tiny_ibq_bundle), "encode", backend="onnxruntime")
    with session:
        ids, margins = session.run({"frames": IMAGES}, ["ids", "margins"])
    np.testing.assert_allclose(found[1], margins, rtol=0, atol=1e-4)
    clear = margins > 1e-4
    np.testing.assert_array_equal(np.asarray(found[0])[clear], ids[clear])
