"""ONNX graphs as programs: the nodes that are fused into each conv, and the refused ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from runtime.backends.native.graphs import Encoder, plain_encoder

from magvit_runtime import BackendError
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.backends.native.program import (
    Input,
    LookupFreeQuantization,
    Output,
    PixelNormalization,
    Program,
)
from magvit_runtime.bundle.onnx_file import read_graph


def program_of(encoder: Encoder, latents: str, folder: Path) -> Program:
    return lower(read_graph(encoder.save(latents, folder / "encoder.onnx")))


@pytest.mark.parametrize("is_video", [True, False])
def test_norms_and_sums_are_parts_of_convs(tmp_path: Path, is_video: bool) -> None:
    program = program_of(*plain_encoder(is_video), tmp_path)
    pixels, *_, quantization = program.steps
    assert isinstance(pixels, PixelNormalization)
    assert (pixels.divisor, pixels.offset) == (127.5, -1)
    assert [conv.weight.shape[:2] for conv in program.convs] == [
        (32, 3), (32, 32), (32, 32), (32, 32), (48, 32), (48, 32), (48, 48), (18, 48),
    ]  # fmt: skip
    first, *_, shortcut, third, fourth, last = program.convs
    assert pixels.reads == ("frames",)
    assert first.input == pixels.output
    assert first.normalization is None
    # The block's input is needed twice: by its first conv, and by the sum.
    assert program.readers(first.output) == (2, 3)
    assert program.convs[2].residual == first.output
    assert third.normalization is not None
    assert third.normalization.groups == 8
    assert third.normalization.activation == "silu"
    assert fourth.residual == shortcut.output
    assert quantization == LookupFreeQuantization(last.output, "ids")
    assert last.kernel == (1, 1, 1)
    frames, maps, ids = ("NTHWC", "NCTHW", "NTHW") if is_video else ("NHWC", "NCHW", "NHW")
    assert program.inputs == (Input("frames", "uint8", frames, 3),)
    assert program.outputs == (
        Output("ids", "ids", ids, "int32"),
        Output(last.output, last.output, maps, "float32"),
    )


def test_pads_of_each_side_are_kept(tmp_path: Path) -> None:
    program = program_of(*plain_encoder(), tmp_path)
    assert program.convs[0].pads_before == (2, 1, 1)
    assert program.convs[0].pads_after == (0, 1, 1)
    assert program.convs[3].output_sizes((17, 40, 71)) == (9, 20, 36)


def test_a_bundles_graph_has_its_modules_names(tiny_bundle: Path) -> None:
    program = lower(read_graph(tiny_bundle / "encode.fp32.onnx"))
    assert program.convs[0].name == "encoder.conv_in.conv_1/Conv"
    assert [source.name for source in program.inputs] == ["frames"]
    assert [output.name for output in program.outputs] == ["ids", "latents"]


def other_operator(encoder: Encoder, x: str) -> str:
    encoder.channels["y"] = encoder.channels[x]
    return encoder.add("Relu", [x], "y")


def grouped_conv(encoder: Encoder, x: str) -> str:
    encoder.channels[x], channels = 1, encoder.channels[x]
    return encoder.conv(x, channels, (1, 1, 1), group=channels)


def dilated_conv(encoder: Encoder, x: str) -> str:
    return encoder.conv(x, 8, (3, 3, 3), dilations=(1, 2, 2))


def conv_of_other_channels(encoder: Encoder, x: str) -> str:
    encoder.channels[x] += 1
    return encoder.conv(x, 8, (1, 1, 1))


def norm_of_other_channels(encoder: Encoder, x: str) -> str:
    encoder.channels[x] *= 2
    return encoder.norm(x, 2)


def norm_of_uneven_groups(encoder: Encoder, x: str) -> str:
    return encoder.norm(x, encoder.channels[x] - 1)


def norms_of_other_groups(encoder: Encoder, x: str) -> str:
    first = encoder.conv(encoder.norm(x, 2), 16, (1, 1, 1))
    return encoder.sum(first, encoder.conv(encoder.norm(x, 4), 16, (1, 1, 1)))


def norm_of_a_norm(encoder: Encoder, x: str) -> str:
    return encoder.norm(encoder.norm(x, 2), 2)


def sum_of_a_norm(encoder: Encoder, x: str) -> str:
    return encoder.sum(encoder.norm(x, 2), x)


def sum_with_itself(encoder: Encoder, x: str) -> str:
    return encoder.sum(x, x)


def frames_cast_twice(encoder: Encoder, x: str) -> str:
    encoder.add("Cast", ["frames"], "again", to=TensorProto.FLOAT)
    encoder.channels["sum"] = encoder.channels[x]
    return encoder.add("Add", [x, "again"], "sum")


@pytest.mark.parametrize(
    "spoil",
    [
        other_operator, grouped_conv, dilated_conv, conv_of_other_channels,
        norm_of_other_channels, norm_of_uneven_groups, norms_of_other_groups, norm_of_a_norm,
        sum_of_a_norm,
        sum_with_itself, frames_cast_twice,
    ],
)  # fmt: skip
def test_what_has_no_place_is_named(tmp_path: Path, spoil: Callable[[Encoder, str], str]) -> None:
    encoder, x = plain_encoder()
    x = encoder.conv(spoil(encoder, encoder.conv(x, 16, (1, 1, 1))), 18, (1, 1, 1))
    with pytest.raises(BackendError, match=r"can't run the node \w+/node \(") as error:
        program_of(encoder, x, tmp_path)
    assert str(error.value).endswith("use backend='onnxruntime'")


def test_more_bits_than_an_id_has(tmp_path: Path) -> None:
    encoder, x = plain_encoder()
    with pytest.raises(BackendError, match="ids of 31 bits at most"):
        program_of(encoder, encoder.conv(x, 32, (1, 1, 1)), tmp_path)


def test_ids_come_from_what_a_conv_wrote(tmp_path: Path) -> None:
    encoder, latents = plain_encoder()
    with pytest.raises(BackendError, match=r"can't run the node ids/node \(magvit\.LFQ\)"):
        program_of(encoder, encoder.norm(latents, 2), tmp_path)


def test_a_map_that_others_read_too_keeps_its_name(tmp_path: Path) -> None:
    """A conv's result is cast twice, and the second cast is read once: both are the conv's."""
    encoder, x = plain_encoder()
    x = encoder.conv(x, 16, (1, 1, 1))
    for cast in ("first", "second"):
        encoder.add("Cast", ["first" if cast == "second" else x], cast, to=TensorProto.FLOAT)
        encoder.channels[cast] = 16
    x = encoder.sum(encoder.conv("second", 16, (1, 1, 1)), x)
    program = program_of(encoder, encoder.conv(x, 18, (1, 1, 1)), tmp_path)
    written = {program.inputs[0].name, *(step.output for step in program.steps)}
    assert {name for step in program.steps for name in step.reads} <= written


def test_frames_of_another_rank(tmp_path: Path) -> None:
    encoder, latents = plain_encoder()
    model = encoder.model(latents)
    del model.graph.input[0].type.tensor_type.shape.dim[:2]
    path = tmp_path / "encoder.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BackendError, match="found frames of rank 3, expected an input of rank 4"):
        lower(read_graph(path))


def test_an_output_that_no_step_writes(tmp_path: Path) -> None:
    encoder, latents = plain_encoder()
    model = encoder.model(latents)
    model.graph.output[1].name = "centred"
    path = tmp_path / "encoder.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BackendError, match="can't give an output of the graph: found centred"):
        lower(read_graph(path))


def test_half_weights_keep_their_type(tmp_path: Path) -> None:
    """The CPU refuses them; another device needs them."""
    encoder = Encoder(is_video=True, random=np.random.default_rng(0))
    latents = encoder.conv(encoder.pixels(), 18, (1, 1, 1))
    for tensor in encoder.tensors:
        if tensor.name.startswith("conv"):
            values = np.frombuffer(tensor.raw_data, np.float32).astype(np.float16)
            tensor.raw_data = values.tobytes()
            tensor.data_type = TensorProto.FLOAT16
    (conv,) = program_of(encoder, latents, tmp_path).convs
    assert conv.weight.dtype == np.float16
