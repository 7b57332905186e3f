"""How long a comparison may take: the counted work of its items, and the usual speeds.

The speeds only weigh what is done against what is left; a progress bar corrects them as it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from magvit_runtime.bundle.manifest import GraphRecord
from magvit_runtime.hardware.cpu import usable_cpus

# Operations a second of one CPU, of convs done directly: the released video encoder on two cores of
# an AMD EPYC (Zen 4). The native backend leaves out what backgrounds repeat.
BACKEND_SPEEDS: Mapping[str, float] = {"onnxruntime": 80e9, "native": 500e9}
PYTORCH_SPEEDS: Mapping[str, float] = {"float32": 65e9, "float64": 10e9}


def item_flop(graph: GraphRecord, shape: tuple[int, ...]) -> float | None:
    """Operations of one item, from the exporter's count for the model's own size.

    Args:
        graph: The graph.
        shape: Shape of the item, without the batch.

    Returns:
        The count in proportion to the number of pixels or tokens; None if there is no count.
    """
    if graph.work is None:
        return None
    counted = graph.work.shapes[graph.inputs[0].name]
    return graph.work.flop * prod(shape) / prod(counted[1:])


def backend_seconds(backend: str, flop: float | None) -> float:
    """Seconds of one item in a backend; 0 where neither its work nor its speed is known."""
    speed = BACKEND_SPEEDS.get(backend)
    return 0.0 if flop is None or speed is None else flop / (speed * usable_cpus())


def pytorch_seconds(dtype: str, flop: float | None) -> float:
    """Seconds of one item in PyTorch on the CPU; 0 where its work isn't known.

    Args:
        dtype: "float32" or "float64".
        flop: Operations of the item.
    """
    return 0.0 if flop is None else flop / (PYTORCH_SPEEDS[dtype] * usable_cpus())
