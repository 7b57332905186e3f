"""One role of a bundle behind a Python class: opened, checked, and run in batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np

from magvit_runtime.backends.backend import Capabilities, DeviceSession, Session
from magvit_runtime.backends.opening import BackendName, check_options, open_role
from magvit_runtime.backends.tensor_check import check_array, check_device_array, check_result
from magvit_runtime.bundle.manifest import GraphRecord, Precision, Role, TensorSpec
from magvit_runtime.bundle.reading import Bundle, open_bundle
from magvit_runtime.cuda.arrays import DeviceArray
from magvit_runtime.door import Door
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.types import Array

MOST_CLIPS = 2**31 - 1  # At once, as the numbers of a batch are counted in 32 bits.


class BatchedRole(Door):
    """Base of the model classes whose graph has one input, of which each item is computed alone.

    Attributes:
        ROLE: What the graph does.
        ITEMS: What the items of its input are called in messages.
    """

    ROLE: ClassVar[Role]
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
    ) -> Self:
        """Opens a bundle's graph for this role, after checking its files against their digests.

        Args:
            path: The bundle's directory.
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
        graph, session = open_role(
            bundle,
            cls.ROLE,
            backend=backend,
            precision=precision,
            threads=threads,
            workers=workers,
            require_parity=require_parity,
            canary=canary,
        )
        options = {
            "backend": backend,
            "precision": precision,
            "threads": threads,
            "batch_size": batch_size,
            "workers": workers,
            "require_parity": require_parity,
            "canary": canary,
        }
        return cls(bundle, graph, session, batch_size, options)

    @property
    def capabilities(self) -> Capabilities:
        """What it runs on, and why."""
        return self._session.capabilities

    def _item_shape(self) -> tuple[int | str, ...]:
        """Shape of one item of the input; a string stands for any size."""
        return self._graph.inputs[0].shape[1:]

    def _run(self, items: Array, output: TensorSpec) -> Array:
        """An output of items, `batch_size` at a time."""
        given = self._graph.inputs[0]
        check_array(self.ITEMS, items, given)
        parts = []
        for i in range(0, len(items), self._batch_size):
            batch = np.ascontiguousarray(items[i : i + self._batch_size])
            (part,) = self._session.run({given.name: batch}, [output.name])
            check_result(part, output, len(batch))
            parts.append(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run_device(self, items: object, output: TensorSpec) -> DeviceArray:
        """An output of items that lie on the session's GPU, all at once."""
        given = self._graph.inputs[0]
        facts = self.capabilities
        if not facts.device_arrays:
            raise BackendError(
                f"{facts.backend} takes no arrays on a GPU",
                found=f"a session on {facts.device}",
                mend="open the bundle with backend='native-cuda' or an engine's",
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
            if self.capabilities.device_arrays:
                cast(DeviceSession, self._session).warm_up((batch, *item))
            else:
                zeros: np.ndarray[Any, Any] = np.zeros((batch, *item), self._graph.inputs[0].dtype)
                self._run(zeros, output)
