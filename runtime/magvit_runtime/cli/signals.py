"""SIGTERM and SIGHUP end a command as Ctrl-C does: cleanly."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Of Ctrl-C; of docker stop and batch systems; of a terminal that closes. Windows lacks the last.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_NOT_IGNORED = (signal.SIG_DFL, signal.default_int_handler)


class StoppedError(KeyboardInterrupt):
    """A signal asked the process to end: what cleans up after Ctrl-C cleans up after this too."""


class StopSignals:
    """Turns signals that ask for the end into `StoppedError`, and remembers the last.

    A library may catch that and fail in its own way, or not at all; `number` tells all the same.

    Attributes:
        number: The signal that came; None where none did.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def exit_code(self) -> int:
        """Of a process that a signal ended, as shells have it."""
        return 128 + (self.number or 0)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listens while the block runs; signals that are ignored, as by nohup, stay so."""
        numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
        if threading.current_thread() is not threading.main_thread():
            numbers = []  # Handlers are the main thread's to set.
        old = {number: signal.getsignal(number) for number in numbers}
        kept = {number: handler for number, handler in old.items() if handler in _NOT_IGNORED}
        try:
            for number in kept:
                signal.signal(number, self._stop)
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self.number = number
        raise StoppedError(signal.Signals(number).name)
