"""Cuts an exported graph at the boundaries of its torch modules, so that each part runs alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar

import onnx_ir as ir
from numpy.typing import NDArray

from magvit_export.onnx.plain_files import plain_graph
from magvit_runtime.backends.onnx_runtime.backend import open_graph
from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.bundle.reading import EXPORT_AGAIN
from magvit_runtime.errors import BundleError

NORMALIZATION, QUANTIZER = "pixel normalization", "quantizer"


@dataclass(frozen=True)
class Stage:
    """The part of the graph that comes from one module.

    Attributes:
        module: Path of the torch module, as "encoder.down.0.block.0.conv1"; or `NORMALIZATION` or
            `QUANTIZER`, which are functions.
        inputs: Names of the values that it takes from other stages, or from the caller.
        output: Name of its output value.
    """

    module: str
    inputs: tuple[str, ...]
    output: str


Value = TypeVar("Value")


class StagedGraph:
    """An encoder's graph as a chain of stages.

    Args:
        path: An exported graph whose digest was checked.
        precision: Its precision, for the record.
        modules: Paths of the modules to cut after.

    Raises:
        BundleError: Its nodes aren't named after these modules.
    """

    def __init__(self, path: Path, precision: Precision, modules: Collection[str]) -> None:
        self._path = path
        self.precision = precision
        with plain_graph(path) as plain:
            self._model = ir.load(plain)
            if plain != path:  # Weights are read when they are needed, and these won't stay.
                self._model = ir.external_data.load_to_model(self._model)
        self._values = ir.convenience.create_value_mapping(self._model.graph)
        self.stages = self._cut(modules)

    def run(self, stage: Stage, *inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Runs one stage in ONNX Runtime, from a file with only this stage's weights.

        Args:
            stage: A stage of this graph.
            inputs: Sets of its inputs by name; each is rounded to the graph's type.

        Returns:
            The stage's output for each set, in the graph's own type.

        Raises:
            BackendError: ONNX Runtime can't run it.
        """
        with TemporaryDirectory() as folder:
            file = Path(folder) / "stage.onnx"
            ir.save(self.model_of(stage), file)
            session = open_graph(file, precision=self.precision)
        try:
            return [
                session.run({name: self._typed(name, one[name]) for name in one}, [stage.output])[0]
                for one in inputs
            ]
        finally:
            session.close()

    def model_of(self, stage: Stage) -> ir.Model:
        """A model of one stage alone, its weights in memory."""
        graph = ir.convenience.extract(self._model.graph, stage.inputs, [stage.output])
        functions = list(self._model.functions.values())
        model = ir.Model(graph, ir_version=self._model.ir_version, functions=functions)
        return ir.external_data.load_to_model(model)

    def _typed(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        dtype = self._values[name].dtype
        assert dtype is not None  # The exporter notes the type of every value.
        return value.astype(dtype.numpy(), copy=False)

    def _cut(self, modules: Collection[str]) -> tuple[Stage, ...]:
        nodes: dict[str, list[ir.Node]] = {}
        for node in self._model.graph:
            # Nodes outside of all modules normalise pixels before them, or quantize after them.
            outside = QUANTIZER if nodes.keys() - {NORMALIZATION} else NORMALIZATION
            nodes.setdefault(_module_of(node, modules) or outside, []).append(node)
        if nodes.keys() != {*modules, NORMALIZATION, QUANTIZER}:
            odd = nodes.keys() ^ {*modules, NORMALIZATION, QUANTIZER}
            raise BundleError(
                f"the nodes of {self._path} aren't named after this model's modules",
                found=", ".join(sorted(odd)),
                mend=EXPORT_AGAIN,
            )
        return tuple(_stage(module, own) for module, own in nodes.items())


class StageValues(Generic[Value]):
    """Values on their way from stage to stage; each is dropped after the last stage that takes it.

    Args:
        graph: The graph.
        frames: The input of its first stage.
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


def _stage(module: str, nodes: Sequence[ir.Node]) -> Stage:
    taken = (value for node in nodes for value in node.inputs if value is not None)
    from_outside = (
        str(value.name)
        for value in taken
        if value.producer() not in nodes and not value.is_initializer()
    )
    # A module's result is the output of its last node.
    return Stage(module, tuple(dict.fromkeys(from_outside)), str(nodes[-1].outputs[0].name))


def _module_of(node: ir.Node, modules: Collection[str]) -> str:
    """Path of the module that a node belongs to; "" if it is in none."""
    name = str(node.name)
    path = name.rpartition("/")[0]
    # A conv's own node is in a module inside of ours.
    while path and path not in modules:
        path = path.rpartition(".")[0]
    return path or (name if "/" in name else "")
