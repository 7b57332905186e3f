"""A bundle's graph for other tools: our operators replaced by what defines them."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.inliner import inline_local_functions

from magvit_runtime.bundle.manifest import GraphRecord
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.errors import BundleError


def plain_model(bundle: Bundle, graph: GraphRecord) -> onnx.ModelProto:
    """A graph in ONNX's own operators alone, its weights in it and the shape of every value noted.

    OpenVINO and others need both: some don't read functions, some don't see what shapes come out of
    them.

    Args:
        bundle: The bundle.
        graph: One of its graphs.

    Raises:
        BundleError: A file was changed, or the graph still has an operator of another domain.
    """
    path = bundle.verified_graph(graph)
    model = onnx.shape_inference.infer_shapes(inline_local_functions(onnx.load(path)))
    foreign = sorted({node.domain for node in model.graph.node if node.domain})
    if foreign:
        raise BundleError(f"{path} has operators that nothing in it defines", found=foreign)
    del model.functions[:]
    standard = [opset for opset in model.opset_import if not opset.domain]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    return model


def write_plain_model(model: onnx.ModelProto, path: Path, data: Path) -> None:
    """Writes a model with its weights in a file beside it.

    Args:
        model: The model; its weights leave it.
        path: The file to write.
        data: The file for its weights, in the same folder.
    """
    data.unlink(missing_ok=True)
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=data.name,
        size_threshold=1024,
    )
