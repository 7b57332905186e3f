"""A backend as in another package: it runs graphs in ONNX Runtime, under its own name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import onnxruntime

from magvit_runtime.backends.backend import (
    Array,
    Candidate,
    Capabilities,
    Opening,
    Session,
    Unfit,
)
from magvit_runtime.backends.graph_candidates import graph_candidates
from magvit_runtime.bundle.manifest import Precision, Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.hardware.machine import Machine


class ToyBackend:
    names = ("toy",)

    def candidates(
        self, bundle: Bundle, role: Role, machine: Machine
    ) -> Iterable[Candidate | Unfit]:
        del machine
        return graph_candidates(
            bundle,
            role,
            "toy",
            device="cpu",
            rank=90,
            reason="a toy",
            why_not=lambda precision: "" if precision == "fp32" else "toys are float32",
            open_graph=ToySession,
        )


class ToySession:
    stage_times = None

    def __init__(self, graph: Path, precision: Precision, opening: Opening) -> None:
        self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.capabilities = Capabilities(
            backend="toy",
            version="1",
            device="CPU",
            precision=precision,
            threads=opening.threads or 0,
            reason=opening.reason,
        )

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        results: list[Array] = self._session.run(list(outputs), dict(inputs))
        return results

    def close(self) -> None:
        pass


BACKEND = ToyBackend()
_session: type[Session] = ToySession
