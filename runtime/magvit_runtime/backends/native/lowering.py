"""Reads a graph as a `Program`, or says which of its nodes has no place in one."""

from __future__ import annotations

from magvit_runtime.backends.native.classifier_lowering import ClassifierLowering
from magvit_runtime.backends.native.decoder_lowering import DecoderLowering
from magvit_runtime.backends.native.encoder_lowering import EncoderLowering
from magvit_runtime.backends.native.lowering_values import LAYOUTS
from magvit_runtime.backends.native.program import Program
from magvit_runtime.bundle.onnx_file import Graph
from magvit_runtime.errors import BackendError

_CODES = ("magvit.LFQCodes", "Gather")  # What makes codes of ids.


def lower(graph: Graph) -> Program:
    """Reads a graph as a program.

    Args:
        graph: An encoder of the Open-MAGVIT2 family or of IBQ as `magvit export` writes it:
            pixels, convs after GroupNorm and SiLU, residual sums, attention, and a quantizer. Or a
            decoder of theirs, see `DecoderLowering`. Or a classifier of ids, or of an encoder's.

    Raises:
        BackendError: A node is none of those, or is in a place that a program has no step for; the
            message names it.
    """
    ranks = list(graph.inputs.values())
    operators = {node.operator for node in graph.nodes}
    if "Softmax" in operators and ranks in ([3], [4], [5]):
        return ClassifierLowering(graph).program()
    if ranks in ([3], [4]) and operators & {*_CODES}:
        return DecoderLowering(graph).program()
    if len(ranks) != 1 or ranks[0] not in LAYOUTS:
        raise BackendError(
            "the native backend runs graphs whose one input is frames or ids",
            found=", ".join(f"{name} of rank {rank}" for name, rank in graph.inputs.items()),
            expected="an input of rank 4 or 5",
        )
    return EncoderLowering(graph).program()
