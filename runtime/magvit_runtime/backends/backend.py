"""What every backend offers: candidates to choose from, and sessions that run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from magvit_runtime.bundle.manifest import GraphRecord, Precision, Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.types import Array as Array

if TYPE_CHECKING:
    from magvit_runtime.cuda.arrays import DeviceArray
    from magvit_runtime.cuda.stage_times import StageTimes
    from magvit_runtime.hardware.machine import Machine


@dataclass(frozen=True)
class Capabilities:
    """What a session runs on, and why it was chosen.

    Attributes:
        backend: Name of the backend, as `backend=` takes it.
        version: Version of the library that it uses.
        device: Where it runs.
        precision: Precision of the graph.
        threads: CPU threads of one run; 0 is the library's own choice.
        reason: Why this backend: asked for, or the best of what is here.
        workers: Runs that it does at once on a GPU; others wait. 0 means no limit.
        device_arrays: Whether it takes and gives arrays on its GPU (it is a `DeviceSession`).
        launches: How runs reach the GPU: by CUDA graphs, or why not. "" without a GPU.
        stateful: Whether it runs graphs with a state (it is a `StatefulSession`).
        devices: Names of the devices of several that share the work; empty for one.
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
    stateful: bool = False
    devices: tuple[str, ...] = ()


class Session(Protocol):
    """One graph, loaded and ready to run."""

    @property
    def capabilities(self) -> Capabilities:
        """What it runs on."""

    @property
    def stage_times(self) -> StageTimes | None:
        """The times of runs on the GPU, recorded once `seconds` is a list; None on a CPU."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Runs the graph once.

        Args:
            inputs: Every input of the graph by name.
            outputs: Names of the outputs wanted. Values that only other outputs need are skipped
                if the backend can skip them.

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
        and are contiguous in C order. The GPU waits for work that still fills them, as both
        protocols arrange; for a tensor of torch this is the work on its current stream.
        `stage_times` leaves these runs out, because they have no copies from or to the host.

        Args:
            inputs: Every input of the graph by name.
            outputs: Names of the outputs wanted.

        Returns:
            The outputs in that order. They are complete, so any stream may use them and the inputs
            at once. They own their memory, which may outlive the session.

        Raises:
            InputError: An input isn't such an array.
            BackendError: The backend failed, or the session is closed.
        """

    def warm_up(self, shape: Sequence[int]) -> None:
        """Runs a shape on every worker until later runs need no new plan, memory or graph.

        Args:
            shape: Shape of the first input, with the batch.

        Raises:
            InputError: The graph doesn't take this shape.
            BackendError: The backend failed, or the session is closed.
        """


class State(Protocol):
    """What a sequence of runs carries from one to the next: a cache of keys and values.

    It belongs to whoever runs, not to the session: a session runs with any number of states, each
    of which is used by one thread at a time.
    """

    @property
    def position(self) -> int:
        """How many positions it holds."""


class StatefulSession(Session, Protocol):
    """A session whose `capabilities.stateful` is true: its graph has inputs of the kind state."""

    def new_state(self, batch: int, rows: int) -> State:
        """An empty state.

        Args:
            batch: Items that are computed together.
            rows: Positions that it has room for; their memory stays where it is.
        """

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], state: State | None = None
    ) -> list[Array]:
        """Runs the graph once, as `Session.run`, on the positions after those of a state.

        Args:
            inputs: Every input of the graph that isn't of the kind state.
            outputs: Names of the outputs wanted, none of them of the kind state.
            state: A state of this session, which then holds the new positions too.

        Raises:
            BackendError: The backend failed, the session is closed, or the state is full or none
                of this session's.
        """


@dataclass(frozen=True)
class Opening:
    """How a session is opened.

    Attributes:
        reason: Why it was chosen, for the record.
        threads: CPU threads of one run; None is the backend's own choice.
        workers: Batches at once on a GPU; None is one. Only a GPU's backends take it.
        gpu: Which GPU, among those that CUDA shows; None is the CPU.
    """

    reason: str
    threads: int | None = None
    workers: int | None = None
    gpu: int | None = 0


@dataclass(frozen=True)
class Candidate:
    """One way to run a role of a bundle on this machine.

    Attributes:
        subject: Name of its parity stamp and of its time in tuning.json.
        role: What it does.
        backend: Name of the backend.
        precision: Precision of the graph.
        device: "cpu" or "cuda".
        sha256: Digest of the graph with its weights, or of the plan.
        graph: Its inputs and outputs.
        rank: The lowest is taken if nothing was timed.
        reason: Why it would be chosen.
        clip_shape: Shape of one item of the first input; a string stands for any size.
        batches: Numbers of items that it takes at once, the smallest first.
        usual_batches: The ones to run if none are asked for.
        is_engine: Whether it was built for this machine, and so isn't the graph itself.
        check: Compares its files with their digests, without loading them; raises BundleError.
        open: Opens it, after that check.
        has_changed: Whether what an engine was built with is another by now, so that the bundle's
            canary must show that it still is the model.
    """

    subject: str
    role: Role
    backend: str
    precision: Precision
    device: str
    sha256: str
    graph: GraphRecord
    rank: int
    reason: str
    clip_shape: tuple[int | str, ...]
    batches: Sequence[int]
    usual_batches: tuple[int, ...]
    is_engine: bool
    check: Callable[[], object]
    open: Callable[[Opening], Session]
    has_changed: bool = False

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether it runs items of a shape, the batch not counted."""
        return len(shape) == len(self.clip_shape) and all(
            isinstance(expected, str) or size == expected
            for size, expected in zip(shape, self.clip_shape, strict=True)
        )


@dataclass(frozen=True)
class Unfit:
    """A way that can't be taken here.

    Attributes:
        subject, role, backend, precision: As in a `Candidate`; a file that can't be read has no
            precision.
        why: Why it can't run.
        fix: The command that fixes it; "" if none does.
        is_engine: As in a `Candidate`.
    """

    subject: str
    role: Role
    backend: str
    precision: Precision | None
    why: str
    fix: str = ""
    is_engine: bool = False


class Backend(Protocol):
    """A backend, or several of one kind.

    Other packages add theirs by entry points of the group `magvit.backends`.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The names that `backend=` takes."""

    def candidates(
        self, bundle: Bundle, role: Role, machine: Machine
    ) -> Iterable[Candidate | Unfit]:
        """Every way to run a role of a bundle here, and those that can't be taken.

        Nothing is loaded. `machine` is asked only for facts that decide, the driver's tool last.
        """
