"""A `with` block for objects that hold a session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import NoReturn, Self


class Closing(ABC):
    """Base of what must be closed: leaving its `with` block closes it. It can't be pickled."""

    @abstractmethod
    def close(self) -> None:
        """Frees what it holds; a second call does nothing."""

    def __reduce__(self) -> NoReturn:
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
