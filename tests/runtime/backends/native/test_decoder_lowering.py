"""Decoders' graphs as programs: the steps that they become, and nodes that have no place in one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from magvit_runtime import BackendError, Detokenizer, open_bundle
from magvit_runtime.backends.native.decoder_steps import (
    AdaptiveNormalization,
    CodebookRows,
    DepthToSpace,
    PixelRounding,
    Repetition,
    SignCodes,
)
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.backends.native.program import Attention, Program
from magvit_runtime.backends.opening import open_role
from magvit_runtime.bundle.onnx_file import Graph, Node, read_graph


@pytest.fixture
def graph(tiny_bundle: Path) -> Graph:
    return read_graph(tiny_bundle / "decode.fp32.onnx")


def changed(graph: Graph, name: str, **changes: Any) -> Graph:
    """The graph with one node changed."""
    assert name in {node.name for node in graph.nodes}
    nodes = [replace(node, **changes) if node.name == name else node for node in graph.nodes]
    return replace(graph, nodes=tuple(nodes))


def attributes(graph: Graph, name: str, **changes: Any) -> Mapping[str, Any]:
    (node,) = (node for node in graph.nodes if node.name == name)
    return dict(node.attributes) | changes


def test_a_decoder_becomes_its_steps(graph: Graph) -> None:
    program = lower(graph)
    kinds = Counter(type(step) for step in program.steps)
    assert (kinds[SignCodes], kinds[AdaptiveNormalization]) == (1, 2)
    assert (kinds[DepthToSpace], kinds[PixelRounding]) == (1, 1)
    first, *_, last = program.steps
    assert first == SignCodes("ids", "LFQCodes", 18)
    assert isinstance(last, PixelRounding)
    assert (last.low, last.high, last.offset, last.scale, last.rounding) == (-1, 1, 1, 127.5, 0.5)
    # Time is kept where the level below has the multiplier 1.
    (finer,) = (step for step in program.steps if isinstance(step, DepthToSpace))
    assert finer.block == (1, 2, 2)


def test_shapes_follow_from_the_ids(graph: Graph) -> None:
    program: Program = lower(graph)
    (ids,) = program.inputs
    assert ids.takes(np.dtype(np.int32), (2, 3, 4, 5))
    assert not ids.takes(np.dtype(np.int64), (2, 3, 4, 5))
    assert not ids.takes(np.dtype(np.int32), (3, 4, 5))
    assert ids.clip_shape((2, 3, 4, 5)) == (3, 4, 5, 1)
    (frames,) = program.outputs
    shapes = program.shapes({"ids": (3, 4, 5, 1)})
    assert frames.shape(2, shapes[frames.value]) == (2, 3, 8, 10, 3)
    assert frames.dtype == "uint8"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("LFQCodes", {"bits": 0}),
        ("LFQCodes", {"bits": 32}),
        ("decoder.adaptive.0.gamma/Gemm", {"transB": 0}),
        ("decoder.adaptive.0.gamma/Gemm", {"alpha": 2.0}),
        ("decoder.adaptive.1/GroupNorm", {"num_groups": 7}),
        ("decoder.adaptive.1/GroupNorm", {"num_groups": 0}),
        ("decoder.up.1.upsample/CausalDepthToSpace", {"block": (1, 3, 2)}),
        ("decoder.up.1.upsample/CausalDepthToSpace", {"block": (2, 2)}),
        ("Transpose", {"perm": (0, 1, 2, 3, 4)}),
        ("Cast", {"to": 6}),
    ],
)
def test_a_node_whose_attributes_have_no_place(
    graph: Graph, name: str, changes: dict[str, Any]
) -> None:
    odd = changed(graph, name, attributes=attributes(graph, name, **changes))
    with pytest.raises(BackendError) as error:
        lower(odd)
    assert str(error.value).startswith(f"the native backend can't run the node {name} (")


@pytest.mark.parametrize(
    ("name", "operator"),
    [("Floor", "Ceil"), ("Clip", "Relu"), ("decoder.adaptive.0.beta/Gemm", "MatMul")],
)
def test_a_node_of_another_kind(graph: Graph, name: str, operator: str) -> None:
    with pytest.raises(BackendError, match="can't run the node"):
        lower(changed(graph, name, operator=operator))


def test_bytes_are_made_of_colours_alone(graph: Graph) -> None:
    """A pixel chain that begins at a map of other channels."""
    (clip,) = (node for node in graph.nodes if node.operator == "Clip")
    (conv_in,) = (node for node in graph.nodes if node.name.startswith("decoder.conv_in"))
    inputs = (conv_in.outputs[0], *clip.inputs[1:])
    with pytest.raises(BackendError, match=r"can't run the node Clip"):
        lower(changed(graph, "Clip", inputs=inputs))


def test_another_input_than_ids_is_refused(graph: Graph) -> None:
    nodes: list[Node] = [node for node in graph.nodes if node.operator != "magvit.LFQCodes"]
    with pytest.raises(BackendError):
        lower(replace(graph, nodes=tuple(nodes)))


def test_a_map_that_something_reads_later_keeps_its_values(tiny_bundle: Path) -> None:
    """Runs use the same memory: one after another, of other sizes, they give the same."""
    random = np.random.default_rng(0)
    grids = [(2, 3, 4), (1, 6, 5), (3, 2, 2)]
    ids = [random.integers(0, 2**18, (1, *grid), np.int32) for grid in grids]
    with Detokenizer.open(tiny_bundle, backend="native") as detokenizer:
        first = [detokenizer(one) for one in ids]
        for one, frames in zip(reversed(ids), reversed(first), strict=True):
            np.testing.assert_array_equal(detokenizer(one), frames)


@pytest.fixture
def ibq_graph(tiny_ibq_bundle: Path) -> Graph:
    return read_graph(tiny_ibq_bundle / "decode.fp32.onnx")


def test_a_codebooks_decoder_becomes_its_steps(ibq_graph: Graph) -> None:
    program = lower(ibq_graph)
    kinds = Counter(type(step) for step in program.steps)
    assert (kinds[CodebookRows], kinds[Attention]) == (1, 3)
    assert (kinds[Repetition], kinds[PixelRounding]) == (1, 1)
    first = program.steps[0]
    assert isinstance(first, CodebookRows)
    assert first.codebook.shape == (6000, 16)
    (finer,) = (step for step in program.steps if isinstance(step, Repetition))
    assert (finer.height, finer.width) == (2, 2)
    (frames,) = program.outputs
    shapes = program.shapes({"ids": (1, 4, 5, 1)})
    assert frames.shape(2, shapes[frames.value]) == (2, 8, 10, 3)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("quantize.embedding/Gather", {"axis": 1}),
        ("Transpose", {"perm": (0, 3, 2, 1)}),
        ("decoder.up.1.upsample/Resize", {"mode": "linear"}),
        ("decoder.up.1.upsample/Resize", {"nearest_mode": "ceil"}),
        ("decoder.up.1.upsample/Resize", {"coordinate_transformation_mode": "align_corners"}),
    ],
)
def test_a_node_of_a_codebooks_decoder_whose_attributes_have_no_place(
    ibq_graph: Graph, name: str, changes: dict[str, Any]
) -> None:
    odd = changed(ibq_graph, name, attributes=attributes(ibq_graph, name, **changes))
    with pytest.raises(BackendError) as error:
        lower(odd)
    assert str(error.value).startswith(f"the native backend can't run the node {name} (")


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        # Rows of something else than the ids, or of a table that isn't one.
        ("quantize.embedding/Gather", ("ids", "quantize.embedding.weight")),
        ("quantize.embedding/Gather", ("post_quant_conv.bias", "ids")),
        # No scales; those of another number of axes; one number.
        ("decoder.up.1.upsample/Resize", ("decoder.up.1.attn.1/Add",)),
        ("decoder.up.1.upsample/Resize", ("decoder.up.1.attn.1/Add", "", "post_quant_conv.bias")),
        ("decoder.up.1.upsample/Resize", ("decoder.up.1.attn.1/Add", "", "Mul/constant_1")),
    ],
)
def test_a_node_of_a_codebooks_decoder_whose_inputs_have_no_place(
    ibq_graph: Graph, name: str, inputs: tuple[str, ...]
) -> None:
    with pytest.raises(BackendError, match="can't run the node"):
        lower(changed(ibq_graph, name, inputs=inputs))


@pytest.mark.parametrize("row", [-1, 6000])
def test_a_session_reads_no_row_beyond_the_codebook(tiny_ibq_bundle: Path, row: int) -> None:
    """The door checks ids before; a session that is used alone checks them too."""
    bundle = open_bundle(tiny_ibq_bundle)
    _, session = open_role(bundle, "decode", backend="native", precision="fp32")
    with session, pytest.raises(BackendError, match="an id is no row of the codebook"):
        session.run({"ids": np.full((1, 2, 2), row, np.int32)}, ["frames"])
