"""What every backend offers: named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from magvit_runtime.types import Array as Array

if TYPE_CHECKING:
    from magvit_runtime.sessions.device_arrays import DeviceArray


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
        device_arrays: Whether it takes and gives arrays on its GPU: it is a `DeviceSession`.
        launches: How runs reach the GPU: by CUDA graphs, or why not. "" without a GPU.
    """

    backend: str
    version: str
    device: str
    precision: str
    threads: int
    reason: str
    workers: int = 0
    device_arrays: bool = False
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


class DeviceSession(Session, Protocol):
    """A session on a GPU, whose `capabilities.device_arrays` is true."""

    def run_device(self, inputs: Mapping[str, object], outputs: Sequence[str]) -> list[DeviceArray]:
        """Runs the graph once on arrays that lie on the session's GPU, where the results stay.

        Inputs export DLPack or `__cuda_array_interface__`, as tensors of torch, CuPy and JAX do,
        and are contiguous in C order. Work that is under way to fill them is waited for on the
        GPU, as both protocols arrange; for a tensor of torch that is the work on its current
        stream. `stage_times` leaves these runs out: they have no copies from or to the host.

        Args:
            inputs: Every input of the graph by name.
            outputs: Names of the outputs wanted.

        Returns:
            The outputs in that order, complete, so that any stream may use them at once, as the
            inputs. They own their memory, which may outlive the session.

        Raises:
            InputError: An input isn't such an array.
            BackendError: The backend failed, or the session is closed.
        """

    def warm_up(self, shape: Sequence[int]) -> None:
        """Runs a shape on every worker until it needs nothing new: no plan, no memory, no graph.

        Args:
            shape: Shape of the first input, with the batch.

        Raises:
            InputError: The graph doesn't take this shape.
            BackendError: The backend failed, or the session is closed.
        """
