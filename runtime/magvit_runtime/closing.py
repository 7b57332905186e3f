"""Objects that hold memory, threads or a GPU: freed by `close`, or when they are dropped."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self

# What forked processes can't free. Were it dropped there, destructors of other libraries would wait
# for threads that only the parent has, as ONNX Runtime's does.
_KEPT: list[object] = []


class Closing(ABC):
    """Base of what must be closed: leaving its `with` block closes it. It can't be pickled."""

    @abstractmethod
    def close(self) -> None:
        """Frees what it holds; a second call does nothing."""

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError(
            f"a {type(self).__name__} can't be copied or pickled: it holds memory and threads of "
            "this process. Open the bundle in each process instead"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def freed_with(owner: object, free: Callable[..., object], *held: object) -> Callable[[], object]:
    """Arranges that something is freed once: when what this returns is called, or with its owner.

    A forked process keeps it for good: the threads and the GPU of its parent aren't there. Nor is
    anything freed at the process's end, when other threads may still compute.

    Args:
        owner: Whoever holds it.
        free: Frees it; must not refer to `owner`.
        held: What `free` is called with.
    """
    finalizer = weakref.finalize(owner, _free_here, os.getpid(), free, held)
    finalizer.atexit = False
    return finalizer


def _free_here(process: int, free: Callable[..., object], held: tuple[object, ...]) -> None:
    if os.getpid() == process:
        free(*held)
    else:
        _KEPT.append((free, held))
