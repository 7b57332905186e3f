"""One role of a bundle behind a Python class: opened, checked, and run in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np

from magvit_runtime.backends.backend import Capabilities, DeviceSession, Session
from magvit_runtime.backends.device_pool import Inputs, run_each, run_one
from magvit_runtime.backends.opening import BackendName, check_options, open_role
from magvit_runtime.backends.tensor_check import check_array, check_device_array, check_result
from magvit_runtime.bundle.manifest import GraphRecord, Precision, Role, TensorSpec
from magvit_runtime.bundle.reading import Bundle, open_bundle
from magvit_runtime.cuda.arrays import DeviceArray
from magvit_runtime.door import Door
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.hardware.devices import DeviceNames
from magvit_runtime.tracing import Facts, each, is_on, span
from magvit_runtime.types import Array

MOST_CLIPS = 2**31 - 1  # At once, as the numbers of a batch are counted in 32 bits.


class BatchedRole(Door):
    """Base of the model classes whose graph has one input, of which each item is computed alone.

    Attributes:
        ROLE: What the graph does.
        TASK: What it does, as traces call it.
        ITEMS: What the items of its input are called in messages.
    """

    ROLE: ClassVar[Role]
    TASK: ClassVar[str]
    ITEMS: ClassVar[str]

    def __init__(
        self,
        bundle: Bundle,
        graph: GraphRecord,
        session: Session,
        batch_size: int,
        options: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(bundle, graph, session, options)
        self._batch_size = batch_size

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        backend: BackendName | str = "auto",
        precision: Precision | None = None,
        threads: int | None = None,
        batch_size: int = 1,
        workers: int | None = None,
        require_parity: bool = False,
        canary: bool = False,
        device: str | None = None,
        devices: DeviceNames | None = None,
    ) -> Self:
        """Opens a bundle's graph for this role, after checking its files against their digests.

        Args:
            path: The bundle's directory, or its address on the hub: hf://OWNER/NAME@REVISION.
            backend: Which backend; "auto" takes the best that this machine can do.
            precision: Which of the bundle's graphs; None takes the most precise.
            threads: CPU threads of one run; None is the backend's own choice.
            batch_size: Clips that run at once; memory grows with it. On a CPU 1 is fastest.
            workers: Batches of different threads that run at once on a GPU, each in memory of its
                own; None is one. With two, one batch is copied while another is computed. Only
                native-cuda and engines take it.
            require_parity: Refuse a graph or engine that hasn't passed `magvit verify` as it is
                now: bundle.json must hold a stamp of its name and digest.
            canary: Run one clip that `magvit verify` kept with its outputs, and refuse a session
                that gives others: after a change of driver, on a damaged GPU, or with an engine of
                another model.
            device: "cpu", "cuda:1", or the UUID of a GPU or of its part (MIG); None leaves it to
                the backend, whose GPU is CUDA's first.
            devices: Several devices that share the work, each with a session and memory of its own:
                "all" GPUs that CUDA shows, or their names. Batches go to the device that is free,
                and the results come in order.

        Raises:
            BundleError: There is no sound bundle at `path`, it has no such graph, or no valid stamp
                or canary where one is required.
            BackendError: No backend here can run it, or none gives what the model must give.
            InputError: An option is out of range.
        """
        if batch_size < 1:
            raise InputError("`batch_size` must be positive", found=batch_size)
        if batch_size > MOST_CLIPS:
            raise InputError("`batch_size` is too large", found=batch_size)
        check_options(backend, threads, workers)
        bundle = open_bundle(path)
        cls._check(bundle)
        options: dict[str, Any] = {
            "backend": backend,
            "precision": precision,
            "threads": threads,
            "workers": workers,
            "require_parity": require_parity,
            "canary": canary,
            "device": device,
            "devices": devices,
        }
        graph, session = open_role(bundle, cls.ROLE, **options)
        return cls(bundle, graph, session, batch_size, options | {"batch_size": batch_size})

    @classmethod
    def _check(cls, bundle: Bundle) -> None:
        """Refuses a bundle that lacks what a class needs besides its graph."""

    @property
    def capabilities(self) -> Capabilities:
        """What it runs on, and why."""
        return self._session.capabilities

    def _item_shape(self) -> tuple[int | str, ...]:
        """Shape of one item of the input; a string stands for any size."""
        return self._graph.inputs[0].shape[1:]

    def _run(self, items: Array, output: TensorSpec) -> Array:
        """An output of items, `batch_size` at a time."""
        # Not checked yet, it may be anything.
        shape = items.shape if isinstance(items, np.ndarray) else ()
        fits = not shape or shape[0] <= self._batch_size
        # One batch by itself: spans that nobody collects, and the generators of several batches,
        # would be a third of what a call adds to the backend's run.
        if fits and not is_on():
            return self._run_batch(items, output, self._session.run)
        with span(self.TASK, lambda: self._facts(shape)):
            if fits:
                return self._run_batch(items, output, partial(run_one, self._session))
            ((result, _),) = self._results((items,), output)
            return result

    def _run_batch(
        self, items: Array, output: TensorSpec, run: Callable[[Inputs, Sequence[str]], list[Array]]
    ) -> Array:
        given = self._graph.inputs[0]
        check_array(self.ITEMS, items, given)
        (result,) = run({given.name: np.ascontiguousarray(items)}, [output.name])
        check_result(result, output, len(items))
        return result

    def _stream(self, arrays: Iterable[Array], output: TensorSpec) -> Iterator[Array]:
        """An output of one array of items after another, `batch_size` items at a time.

        One batch is held at a time; with several devices, twice as many as they compute at once.
        """
        results = self._results(arrays, output)
        traced = each(self.TASK, results, lambda one: self._facts(one[1].shape))
        return (result for result, _ in traced)

    def _results(
        self, arrays: Iterable[Array], output: TensorSpec
    ) -> Iterator[tuple[Array, Array]]:
        """The same, each output with what it is of."""
        given, size = self._graph.inputs[0], self._batch_size
        # Arrays whose outputs are still to come, with the sizes of their batches.
        waiting: deque[tuple[Array, list[int]]] = deque()

        def batches() -> Iterator[dict[str, Array]]:
            for items in arrays:
                check_array(self.ITEMS, items, given)
                parts = [items[i : i + size] for i in range(0, len(items), size)]
                waiting.append((items, [len(part) for part in parts]))
                for part in parts:
                    yield {given.name: np.ascontiguousarray(part)}

        done: list[Array] = []
        for (part,) in run_each(self._session, batches(), [output.name]):
            items, sizes = waiting[0]
            check_result(part, output, sizes[len(done)])
            done.append(part)
            if len(done) == len(sizes):
                waiting.popleft()
                yield (done[0] if len(done) == 1 else np.concatenate(done)), items
                done = []

    def _facts(self, shape: tuple[int, ...]) -> Facts:
        """What a trace says of a call with items of a shape."""
        facts = self.capabilities
        return {
            self.ITEMS: shape[0] if shape else 0,
            "shape": shape[1:],
            "batch_size": self._batch_size,
            "role": self.ROLE,
            "backend": facts.backend,
            "precision": facts.precision,
            "device": facts.device,
        }

    def _run_device(self, items: object, output: TensorSpec) -> DeviceArray:
        """An output of items that lie on the session's GPU, all at once."""
        given = self._graph.inputs[0]
        facts = self.capabilities
        if not facts.device_arrays:
            raise BackendError(
                f"{facts.backend} takes no arrays on a GPU",
                found=f"a session on {facts.device}",
                mend="open the bundle on one `device`, with backend='native-cuda' or an engine's",
            )
        count = check_device_array(self.ITEMS, items, given)
        if count > self._batch_size:
            raise InputError(
                f"{self.ITEMS} on the GPU run in one batch",
                found=f"{count} of them",
                expected=f"at most `batch_size`, {self._batch_size}",
                mend="open the bundle with a larger `batch_size`, or pass slices",
            )
        session = cast(DeviceSession, self._session)
        shape = tuple(cast(Any, items).shape)
        with span(self.TASK, lambda: self._facts(shape)):
            (result,) = session.run_device({given.name: items}, [output.name])
        check_result(result, output, count)
        return result

    def _warm_up(
        self, item: Sequence[int], batches: Iterable[int] | None, output: TensorSpec
    ) -> None:
        """Runs items of a shape, at each of some batch sizes."""
        for batch in (self._batch_size,) if batches is None else batches:
            if not 1 <= batch <= self._batch_size:
                raise InputError(
                    "batches of this size don't come",
                    found=batch,
                    expected=f"1 to `batch_size`, {self._batch_size}",
                )
            facts = self.capabilities
            if facts.device_arrays or facts.devices:
                cast(DeviceSession, self._session).warm_up((batch, *item))
            else:
                zeros: np.ndarray[Any, Any] = np.zeros((batch, *item), self._graph.inputs[0].dtype)
                self._run(zeros, output)
