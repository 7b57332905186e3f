"""The rule of `magvit verify` for `polygraphy run … --compare-func-script`.

Polygraphy compares ids as numbers, and one changed bit can change an id by 131,072. Here the limits
of the precision decide (docs/parity.md). MAGVIT_GRAPH names the graph that is compared; its bundle
knows its outputs and its precision.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from polygraphy.logger import G_LOGGER

from magvit_runtime.agreement.comparison import new_comparison
from magvit_runtime.bundle.reading import open_bundle

Outputs = Mapping[str, NDArray[np.generic]]


def compare_outputs(ours: Outputs, reference: Outputs) -> OrderedDict[str, bool]:
    """Whether the outputs of a batch agree with those of the reference, which is the second run."""
    path = Path(os.environ["MAGVIT_GRAPH"])
    precision, graph = next(
        (precision, graph)
        for precision, graph in open_bundle(path.parent).graphs("encode").items()
        if graph.file == path.name
    )
    names = {spec.kind: spec.name for spec in graph.outputs}
    comparison = new_comparison(graph)
    comparison.add(
        {kind: np.asarray(ours[name]) for kind, name in names.items()},
        {kind: np.asarray(reference[name]) for kind, name in names.items()},
        [f"clip {index}" for index in range(len(ours["ids"]))],
    )
    agreement = comparison.result()
    G_LOGGER.info(agreement.summary)
    passed = agreement.passes(precision)
    return OrderedDict.fromkeys(names.values(), passed)
