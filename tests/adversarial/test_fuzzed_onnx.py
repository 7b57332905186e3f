"""ONNX files that were damaged, with digests that vouch for them: a MagvitError, or ids.

We can't change how ONNX Runtime reads hostile bytes. But its errors must become ours, and its
outputs must be as the manifest says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from adversarial import mutations
from adversarial.mutations import ENCODER
from adversarial.watchdog import Case, run_cases
from numpy.random import Generator

CLASSIFIER = "classify.fp32.onnx"
INTEGERS = (0, 1, -1, 2, 3, 7, 1000, 2**31 - 1, -(2**63), 2**63 - 1)


def bytes_damaged(content: bytes, random: Generator) -> bytes:
    return mutations.damaged(content, random)


def structure_changed(content: bytes, random: Generator) -> bytes:
    """The file stays readable: its nodes, sizes, types and names become others."""
    model = onnx.load_from_string(content)
    for _ in range(random.integers(1, 4)):
        graph = model.graph
        if len(model.functions) and random.random() < 0.4:
            nodes = model.functions[random.integers(len(model.functions))].node
        else:
            nodes = graph.node
        node = nodes[random.integers(len(nodes))]
        CHANGES[random.integers(len(CHANGES))](graph, nodes, node, random)
    return model.SerializeToString()


def change_attribute(
    _graph: object, _nodes: object, node: onnx.NodeProto, random: Generator
) -> None:
    if not node.attribute:
        return
    attribute = node.attribute[random.integers(len(node.attribute))]
    if attribute.ints:
        attribute.ints[random.integers(len(attribute.ints))] = int(random.choice(INTEGERS))
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = int(random.choice(INTEGERS))
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = float(random.choice([0.0, -1.0, float("nan"), float("inf"), 1e38]))
    else:
        node.attribute.remove(attribute)


def change_operator(
    _graph: object, _nodes: object, node: onnx.NodeProto, random: Generator
) -> None:
    others = ("Identity", "Loop", "If", "Div", "Mod", "Expand", "Tile", "Shape", "Resize", "X")
    node.op_type = others[random.integers(len(others))]


def drop_node(_graph: object, nodes: object, node: onnx.NodeProto, _random: Generator) -> None:
    nodes.remove(node)


def rewire(_graph: object, nodes: object, node: onnx.NodeProto, random: Generator) -> None:
    source = nodes[random.integers(len(nodes))]
    if node.input:
        names = (*source.output, *source.input, "", "none")
        node.input[random.integers(len(node.input))] = names[random.integers(len(names))]


def change_weight(graph: onnx.GraphProto, *rest: object) -> None:
    random = rest[-1]
    tensor = graph.initializer[random.integers(len(graph.initializer))]
    if random.random() < 0.5 and tensor.dims:
        tensor.dims[random.integers(len(tensor.dims))] = int(random.choice(INTEGERS))
    else:
        tensor.data_type = int(random.integers(0, 24))


def change_boundary(graph: onnx.GraphProto, *rest: object) -> None:
    random = rest[-1]
    values = (*graph.input, *graph.output)
    value = values[random.integers(len(values))]
    tensor = value.type.tensor_type
    if random.random() < 0.3:
        value.name += "x"
    elif random.random() < 0.5:
        tensor.elem_type = int(random.integers(0, 24))
    elif tensor.shape.dim:
        tensor.shape.dim[random.integers(len(tensor.shape.dim))].dim_value = int(
            random.choice(INTEGERS)
        )


CHANGES: tuple[Callable[..., None], ...] = (
    change_attribute,
    change_operator,
    drop_node,
    rewire,
    change_weight,
    change_boundary,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "count"), [(ENCODER, "encoder", 100), (CLASSIFIER, "classifier", 70)]
)
@pytest.mark.parametrize("damage", [bytes_damaged, structure_changed])
def test_a_magvit_error_or_a_result(
    sound_bundle: Path,
    tmp_path: Path,
    name: str,
    kind: str,
    count: int,
    damage: Callable[[bytes, Generator], bytes],
) -> None:
    def make(folder: Path, random: Generator) -> Path:
        bundle = mutations.copy_bundle(sound_bundle, folder)
        mutations.replace_content(bundle, name, damage((bundle / name).read_bytes(), random))
        return bundle

    cases = [Case(f"{kind} {damage.__name__} {number}", make) for number in range(count)]
    tally = run_cases(kind, cases, tmp_path, sound_bundle)
    assert not tally.faults, f"{len(tally.faults)} faults:\n" + "\n".join(tally.faults)
    assert tally.worked + tally.refused == count
    assert tally.worked
    assert tally.refused
