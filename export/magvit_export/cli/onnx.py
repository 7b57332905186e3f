"""`magvit onnx`: a bundle's graph for other tools."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from cyclopts import Parameter

from magvit_runtime.bundle.manifest import Precision, Role
from magvit_runtime.bundle.reading import open_bundle
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import BundleArgument
from magvit_runtime.errors import InputError


def onnx(
    bundle: BundleArgument,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    role: Role = "encode",
    precision: Precision | None = None,
) -> Outcome:
    """Writes a graph of a bundle for other tools: ONNX's own operators only, shapes noted.

    The bundle's own file holds our operators as functions, which ONNX Runtime and TensorRT read and
    some tools, OpenVINO among them, don't.

    Args:
        bundle: Directory of the exported model, or hf://OWNER/NAME@REVISION on the hub.
        output: The .onnx file to write; its weights go to a file of the same name with .data.
        role: What the graph does: encode, decode or features.
        precision: Which of the bundle's graphs; the most precise by default.
    """
    from magvit_export.onnx.plain import plain_model, write_plain_model

    if output.suffix.lower() != ".onnx":
        raise InputError(f"{output} is of an unknown kind", expected=".onnx")
    if output.resolve().parent == bundle.resolve():
        raise InputError(f"{output} would lie in the bundle", mend="choose another -o")
    opened = open_bundle(bundle)
    chosen, graph = opened.graph(role, precision)
    model = plain_model(opened, graph)
    operators = Counter(node.op_type for node in model.graph.node)
    opset = model.opset_import[0].version
    data = output.with_suffix(".data")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
            staged = Path(folder) / output.name, Path(folder) / data.name
            write_plain_model(model, *staged)
            # The weights first: a graph without them is nothing.
            staged[1].replace(data)
            staged[0].replace(output)
    except OSError as error:
        raise InputError(f"can't write {output}", found=error.strerror) from error
    facts = {
        "output": str(output),
        "data": str(data),
        "role": role,
        "precision": chosen,
        "opset": opset,
        "operators": dict(operators),
    }
    size = output.stat().st_size + data.stat().st_size
    text = f"{role} ({chosen}) -> {output} and {data.name} ({size / 1e6:.0f} MB), opset {opset}"
    return Outcome(facts, text)
