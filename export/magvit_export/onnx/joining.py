"""Joins an encoder's graph and a classifier's to one: frames in, probabilities and ids out."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from magvit_runtime.bundle.manifest import GraphRecord

_PREFIX = "classify/"  # No name of an encoder begins so.


def join_graphs(
    encoder: Path, classifier: Path, path: Path, record: GraphRecord, *, ids: str
) -> None:
    """Writes a graph whose weights stay in the files of the two that it is made of.

    Args:
        encoder: Gives ids.
        classifier: Takes ids alone.
        path: The `.onnx` file to write, in the folder in which the files of weights will lie.
        record: The new graph's inputs and outputs, which may fix sizes.
        ids: The encoder's output that the classifier takes.
    """
    model, head = ir.load(encoder), ir.load(classifier)
    graph, added = model.graph, head.graph
    (given,) = added.inputs
    (tokens,) = (value for value in graph.outputs if value.name == ids)
    made, weights, nodes = list(added.outputs), list(added.initializers.values()), list(added)
    for node in nodes:
        node.name = f"{_PREFIX}{node.name}"
    for value in (*weights, *(value for node in nodes for value in node.outputs)):
        if value not in made:
            value.name = f"{_PREFIX}{value.name}"
    ir.convenience.replace_all_uses_with(given, tokens)
    added.outputs.clear()
    added.initializers.clear()
    added.remove(nodes)
    for value in weights:
        graph.register_initializer(value)
    graph.extend(nodes)
    graph.outputs[:] = [*made, *graph.outputs]
    model.functions.update(head.functions)
    model.opset_imports.update(
        {
            domain: max(version, model.opset_imports.get(domain, 0))
            for domain, version in head.opset_imports.items()
        }
    )
    for node in graph:
        for value in node.outputs:
            value.shape = None  # They name sizes that are fixed now.
    sizes = {spec.name: spec.shape for spec in (*record.inputs, *record.outputs)}
    for value in (*graph.inputs, *graph.outputs):
        value.shape = ir.Shape(sizes[str(value.name)])
    ir.save(model, path)
    # The two were checked when they were exported; what is new is how their shapes fit.
    joined = onnx.load(path, load_external_data=False)
    onnx.shape_inference.infer_shapes(joined, check_type=True, strict_mode=True)
