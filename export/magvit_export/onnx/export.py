"""Exports a PyTorch module to one ONNX file that every runtime can run."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from magvit_export.onnx.functions import FUNCTIONS, OPSET
from magvit_export.onnx.operator_nodes import DOMAIN
from magvit_export.onnx.plain_files import plain_graph

Dynamic = Mapping[int, str]
_SMALL = 256  # Bytes.


def export_onnx(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic: Sequence[Dynamic],
    opset: int = OPSET,
    shared: Mapping[str, str] = MappingProxyType({}),
    stored: Path | None = None,
) -> tuple[Path, ...]:
    """Exports a module to an ONNX file with its weights beside it.

    Equal weights give equal bytes: the file has no time, path or host name.

    Args:
        module: The module, in eval mode.
        example: Inputs to trace with.
        path: The `.onnx` file to write; its weights go to a file with the suffix `.data`.
        input_names: Names of the graph's inputs.
        output_names: Names of its outputs.
        dynamic: For each input, its axes whose size the caller may choose, and their names.
        opset: ONNX opset, 21 or later: from then on the exporter folds pads into the convs.
        shared: Weights that lie in a file of their own, beside the graph, and the file of each.
        stored: A graph in the same folder; weights that it has too are taken from its files.

    Returns:
        The graph, and the files that its weights lie in.
    """
    dims = {name: torch.export.Dim(name, min=1) for axes in dynamic for name in axes.values()}
    axes_of_inputs: list[object] = [
        {axis: dims[name] for axis, name in axes.items()} for axes in dynamic
    ]
    with _quiet_exporter(), torch.inference_mode():
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            opset_version=opset,
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_shapes=_as_parameters(module, axes_of_inputs),
            verbose=False,
        )
    assert program is not None  # Without a file name, the exporter always returns its program.
    model = program.model
    _define_custom_operators(model)
    _name_by_module_path(model)
    _forget_the_exporter(model)
    files = _move_weights(model, path, shared, stored)
    ir.save(model, path)
    with plain_graph(path) as plain:
        onnx.checker.check_model(plain, full_check=True)
    return (path, *files)


def _as_parameters(module: nn.Module, inputs: Sequence[object]) -> tuple[object, ...]:
    """What belongs to each input as what belongs to each parameter of a module's `forward`.

    `*caches` is one parameter, and takes all inputs that the others leave.
    """
    parameters = list(inspect.signature(module.forward).parameters.values())
    if parameters[-1].kind != inspect.Parameter.VAR_POSITIONAL:
        return tuple(inputs)
    named = len(parameters) - 1
    return (*inputs[:named], tuple(inputs[named:]))


def _move_weights(
    model: ir.Model, path: Path, shared: Mapping[str, str], stored: Path | None = None
) -> tuple[Path, ...]:
    """Moves weights to files beside a graph; what is small stays in the graph."""
    own_file = path.with_suffix(".data").name
    values: dict[str, list[ir.Value]] = {}
    files: dict[str, None] = {}
    there = {} if stored is None else _external_weights(stored)
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        if (same := there.get(name)) is not None and _is_equal(value.const_value, same):
            value.const_value = same
            files[str(same.location)] = None
        elif value.const_value.nbytes > _SMALL:
            values.setdefault(shared.get(name, own_file), []).append(value)
    for file, own in values.items():
        tensors = [value.const_value for value in own if value.const_value is not None]
        moved = ir.external_data.convert_tensors_to_external(tensors, path.parent, file)
        for value, tensor in zip(own, moved, strict=True):
            value.const_value = tensor
    # The graph's own file comes first: its digest counts them in this order.
    ordered = sorted({*values, *files}, key=lambda file: (file != own_file, file))
    return tuple(path.with_name(file) for file in ordered)


def _external_weights(path: Path) -> dict[str, ir.ExternalTensor]:
    """The weights that a graph has in files beside it, by name."""
    values = ir.load(path).graph.initializers.items()
    return {
        name: value.const_value
        for name, value in values
        if isinstance(value.const_value, ir.ExternalTensor)
    }


def _is_equal(ours: ir.TensorProtocol, stored: ir.ExternalTensor) -> bool:
    return (
        ours.dtype == stored.dtype
        and tuple(ours.shape) == tuple(stored.shape)
        and np.array_equal(ours.numpy(), stored.numpy())
    )


def _define_custom_operators(model: ir.Model) -> None:
    used = {node.op_type for node in model.graph if node.domain == DOMAIN}
    for name in sorted(used):
        function = ir.serde.deserialize_function(FUNCTIONS[name]())
        model.functions[function.identifier()] = function


def _name_by_module_path(model: ir.Model) -> None:
    """Names nodes and values by the torch module that they came from, as Netron shows them."""
    outputs = {value.name for value in model.graph.outputs}
    taken: dict[str, int] = {}
    for node in model.graph:
        scopes = _module_scopes(node)
        label = f"{scopes[-1]}/{node.op_type}" if scopes else node.op_type
        taken[label] = taken.get(label, 0) + 1
        node.name = label if taken[label] == 1 else f"{label}_{taken[label]}"
        for i, value in enumerate(node.outputs):
            if value.name not in outputs:
                value.name = node.name if i == 0 else f"{node.name}.{i}"
        for i, operand in enumerate(node.inputs):
            if operand is not None and operand.is_initializer() and "." not in str(operand.name):
                operand.name = f"{node.name}/constant_{i}"


def _module_scopes(node: ir.Node) -> list[str]:
    """Paths of the torch modules around a node, outermost first; the root's is left out."""
    text = node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]")
    scopes = text.strip("[]").replace("'", "").split(", ")
    return [scope for scope in scopes[:-1] if scope]


def _forget_the_exporter(model: ir.Model) -> None:
    """Removes the exporter's notes, such as stack traces and file paths."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.producer_name = "magvit-runtime"
    model.producer_version = version("magvit-runtime")
    model.graph.name = "magvit"


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silences the exporter's messages; its errors are still raised."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
