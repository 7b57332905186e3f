"""The cache of keys and values of one generation in ONNX Runtime, in memory that never moves.

The graph reads the cache where it lies, and gives only the rows of the positions that it computed;
they are written into the cache after the run. Nothing else of it is copied or moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime

from magvit_runtime.errors import BackendError
from magvit_runtime.types import Array

POSITION = "position"
NEW = "new_"
_ROW_AXIS = 2
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class CacheState:
    """Keys and values of the positions so far, for one session; see `State`.

    Args:
        session: The session of a graph whose outputs "new_X" are new rows of its inputs "X",
            [N, heads, rows, head_dim].
        batch: Items that are computed together.
        rows: Positions that it has room for.

    Raises:
        BackendError: The graph has no such inputs.
    """

    def __init__(self, session: onnxruntime.InferenceSession, batch: int, rows: int) -> None:
        made = {output.name for output in session.get_outputs()}
        caches = [one for one in session.get_inputs() if NEW + one.name in made]
        if not caches:
            raise BackendError("this graph keeps no state")
        self._session = session
        self._rows = rows
        self._position = 0
        # Rows of positions to come are masked; they must only be finite.
        self._caches: dict[str, Array] = {
            one.name: np.zeros((batch, one.shape[1], rows, one.shape[3]), _TYPES[one.type])
            for one in caches
        }
        self._binding = session.io_binding()
        self._values = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(cache)
            for name, cache in self._caches.items()
        }
        for name, value in self._values.items():
            self._binding.bind_ortvalue_input(name, value)

    @property
    def position(self) -> int:
        """How many positions it holds."""
        return self._position

    def run(
        self,
        session: onnxruntime.InferenceSession,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
    ) -> list[Array]:
        """Runs the positions after those that it holds, and keeps their keys and values.

        Raises:
            BackendError: It is another session's, or has no room.
        """
        if session is not self._session:
            raise BackendError("this state is another session's")
        binding = self._binding
        fed = {**inputs, POSITION: np.array([self._position], np.int32)}
        for name, value in fed.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(value))
        binding.clear_binding_outputs()
        for name in (*outputs, *(NEW + name for name in self._caches)):
            binding.bind_output(name)
        session.run_with_iobinding(binding)
        results: list[Array] = [value.numpy() for value in binding.get_outputs()]
        self._keep(results[len(outputs) :])
        return results[: len(outputs)]

    def _keep(self, new: Sequence[Array]) -> None:
        end = self._position + new[0].shape[_ROW_AXIS]
        if end > self._rows:
            raise BackendError("this state is full", found=end, expected=f"≤ {self._rows}")
        for cache, rows in zip(self._caches.values(), new, strict=True):
            cache[:, :, self._position : end] = rows
        self._position = end
