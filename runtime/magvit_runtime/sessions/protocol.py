"""What every backend offers: named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from magvit_runtime.types import Array as Array


@dataclass(frozen=True)
class Capabilities:
    """What a session runs on, and why it was chosen.

    Attributes:
        backend: Name of the backend, as `backend=` takes it.
        version: Version of the library behind it.
        device: Where it runs.
        precision: Precision of the graph.
        threads: CPU threads of one run; 0 is the library's own choice.
        reason: Why this backend: asked for, or the best of what is here.
        workers: Runs that it does at once on a GPU; others wait. 0 where it sets no limit.
        launches: How runs reach the GPU: by CUDA graphs, or why not. "" without a GPU.
    """

    backend: str
    version: str
    device: str
    precision: str
    threads: int
    reason: str
    workers: int = 0
    launches: str = ""


class Session(Protocol):
    """One graph, loaded and ready to run."""

    @property
    def capabilities(self) -> Capabilities:
        """What it runs on."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Runs the graph once.

        Args:
            inputs: Every input of the graph by name.
            outputs: Names of the outputs wanted; what only others need isn't computed where the
                backend can leave it out.

        Returns:
            The outputs, in the order asked for, as arrays that the caller owns.

        Raises:
            BackendError: The backend failed, or the session is closed.
        """

    def close(self) -> None:
        """Frees what the session holds; a second call does nothing."""
