"""Cuts an exported graph at the boundaries of its torch modules, so that each part runs alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar

import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from magvit_runtime.backends.onnx_runtime.backend import open_graph
from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.bundle.reading import EXPORT_AGAIN
from magvit_runtime.errors import BundleError

NORMALIZATION, QUANTIZER = "pixel normalization", "quantizer"


@dataclass(frozen=True)
class Stage:
    """The nodes of one module.

    Attributes:
        module: Path of the torch module, as "encoder.down.0.block.0.conv1"; or `NORMALIZATION` or
            `QUANTIZER`, which are functions.
        inputs: Names of the values that it takes from other stages, or from the caller.
        output: Name of the value that it gives.
        nodes: Its nodes, in order.
    """

    module: str
    inputs: tuple[str, ...]
    output: str
    nodes: tuple[NodeProto, ...]


Value = TypeVar("Value")


class StagedGraph:
    """An encoder's graph as a chain of stages.

    Args:
        path: An exported graph whose digest was checked.
        precision: Its precision, for the record.
        modules: Paths of the modules to cut behind.

    Raises:
        BundleError: Its nodes aren't named after these modules.
    """

    def __init__(self, path: Path, precision: Precision, modules: Collection[str]) -> None:
        self._path = path
        self.precision = precision
        self._model = onnx.load(path, load_external_data=False)
        graph = self._model.graph
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._values = {
            value.name: value for value in (*graph.input, *graph.value_info, *graph.output)
        }
        self.stages = self._cut(modules)

    def run(self, stage: Stage, *inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Runs one stage in ONNX Runtime, from a file that holds no other's weights.

        Args:
            stage: One of this graph's.
            inputs: Sets of its inputs by name; each is rounded to the graph's type.

        Returns:
            The stage's output for each set, in the graph's own type.

        Raises:
            BackendError: ONNX Runtime can't run it.
        """
        with TemporaryDirectory() as folder:
            file = Path(folder) / "stage.onnx"
            onnx.save(self._model_of(stage), file)
            session = open_graph(file, precision=self.precision)
        try:
            return [
                session.run({name: self._typed(name, one[name]) for name in one}, [stage.output])[0]
                for one in inputs
            ]
        finally:
            session.close()

    def _model_of(self, stage: Stage) -> ModelProto:
        names = {name for node in stage.nodes for name in node.input} & self._weights.keys()
        graph = helper.make_graph(
            stage.nodes,
            "stage",
            [self._values[name] for name in stage.inputs],
            [self._values[stage.output]],
            [self._weight(name) for name in sorted(names)],
        )
        return helper.make_model(
            graph,
            functions=self._model.functions,
            opset_imports=self._model.opset_import,
            ir_version=self._model.ir_version,
        )

    def _typed(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        element = self._values[name].type.tensor_type.elem_type
        return value.astype(helper.tensor_dtype_to_np_dtype(element), copy=False)

    def _weight(self, name: str) -> TensorProto:
        tensor = TensorProto()
        tensor.CopyFrom(self._weights[name])
        if uses_external_data(tensor):
            load_external_data_for_tensor(tensor, str(self._path.parent))
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
        return tensor

    def _cut(self, modules: Collection[str]) -> tuple[Stage, ...]:
        nodes: dict[str, list[NodeProto]] = {}
        for node in self._model.graph.node:
            # What lies outside of all modules normalises pixels before them, and quantizes after.
            outside = QUANTIZER if nodes.keys() - {NORMALIZATION} else NORMALIZATION
            nodes.setdefault(_module_of(node, modules) or outside, []).append(node)
        if nodes.keys() != {*modules, NORMALIZATION, QUANTIZER}:
            odd = nodes.keys() ^ {*modules, NORMALIZATION, QUANTIZER}
            raise BundleError(
                f"the nodes of {self._path} aren't named after this model's modules",
                found=", ".join(sorted(odd)),
                mend=EXPORT_AGAIN,
            )
        return tuple(self._stage(module, own) for module, own in nodes.items())

    def _stage(self, module: str, nodes: Sequence[NodeProto]) -> Stage:
        given = {name for node in nodes for name in node.output}
        taken = dict.fromkeys(name for node in nodes for name in node.input)
        inputs = tuple(name for name in taken if name not in given and name not in self._weights)
        # What a module returns is what its last node gives.
        return Stage(module, inputs, nodes[-1].output[0], tuple(nodes))


class StageValues(Generic[Value]):
    """Values on their way from stage to stage; each is dropped behind the last that takes it.

    Args:
        graph: The graph.
        frames: What its first stage takes.
    """

    def __init__(self, graph: StagedGraph, frames: Value) -> None:
        self._takers = Counter(name for stage in graph.stages for name in stage.inputs)
        self._values = {graph.stages[0].inputs[0]: frames}

    def take(self, stage: Stage) -> dict[str, Value]:
        """The inputs of a stage, by name.

        Raises:
            BundleError: There is no such value yet: the graph is wired in another order.
        """
        if missing := set(stage.inputs) - self._values.keys():
            raise BundleError(
                f"{stage.module} takes what the model hasn't computed by then",
                found=", ".join(sorted(missing)),
                mend=EXPORT_AGAIN,
            )
        taken = {name: self._values[name] for name in stage.inputs}
        self._takers.subtract(stage.inputs)
        for name in stage.inputs:
            if not self._takers[name]:
                del self._values[name]
        return taken

    def give(self, stage: Stage, value: Value) -> None:
        """Adds the output of a stage."""
        self._values[stage.output] = value


def _module_of(node: NodeProto, modules: Collection[str]) -> str:
    """Path of the module that a node belongs to; "" where it is in none."""
    path = node.name.rpartition("/")[0]
    # A conv's own node is in a module inside of ours.
    while path and path not in modules:
        path = path.rpartition(".")[0]
    return path or (node.name if "/" in node.name else "")
