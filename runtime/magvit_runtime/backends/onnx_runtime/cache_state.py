"""The cache of keys and values of one generation in ONNX Runtime, in memory that never moves.

The graph reads the cache where it lies, and gives only the rows of the positions that it computed;
they are written into the cache after the run. The graph attends to all rows that it is given, so it
is given those that are filled, in steps of 64; at each step the rows move apart within the memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime

from magvit_runtime.errors import BackendError
from magvit_runtime.types import Array

IDS, POSITION = "ids", "position"
NEW = "new_"
_ROW_AXIS = 2
_STEP = 64
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
        self._memory: dict[str, Array] = {
            one.name: np.zeros((batch, one.shape[1], rows, one.shape[3]), _TYPES[one.type])
            for one in caches
        }
        self._caches: dict[str, Array] = {}
        self._binding = session.io_binding()
        self._spread(min(_STEP, rows))

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
        end = self._position + inputs[IDS].shape[1]
        if end > self._rows:
            raise BackendError("this state is full", found=end, expected=f"≤ {self._rows}")
        if end > next(iter(self._caches.values())).shape[_ROW_AXIS]:
            self._spread(min(-(-end // _STEP) * _STEP, self._rows))
        binding = self._binding
        fed = {**inputs, POSITION: np.array([self._position], np.int32)}
        for name, value in fed.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(value))
        binding.clear_binding_outputs()
        for name in (*outputs, *(NEW + name for name in self._caches)):
            binding.bind_output(name)
        session.run_with_iobinding(binding)
        results: list[Array] = [value.numpy() for value in binding.get_outputs()]
        for cache, new in zip(self._caches.values(), results[len(outputs) :], strict=True):
            cache[:, :, self._position : end] = new
        self._position = end
        return results[: len(outputs)]

    def _spread(self, rows: int) -> None:
        """Gives each cache more rows, at the beginning of its memory."""
        for name, memory in self._memory.items():
            batch, heads, _, width = memory.shape
            wide = memory.reshape(-1)[: batch * heads * rows * width]
            cache = wide.reshape(batch * heads, rows, width)
            if name in self._caches:
                narrow = self._caches[name].reshape(batch * heads, -1, width)
                filled = narrow.shape[1]
                # From the last on, so that none is written over before it has moved.
                for i in reversed(range(1, batch * heads)):
                    cache[i, :filled] = narrow[i]
            self._caches[name] = cache.reshape(batch, heads, rows, width)
            value = onnxruntime.OrtValue.ortvalue_from_numpy(self._caches[name])
            self._binding.bind_ortvalue_input(name, value)
