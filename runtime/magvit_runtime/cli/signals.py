"""SIGTERM and SIGHUP end a command as Ctrl-C does: cleanly."""

from __future__ import annotations

import signal
import threading
from types import FrameType

# As shells say it of a process that a signal ended.
SIGNALLED = 128

_NAMES = ("SIGTERM", "SIGHUP")  # Of docker stop, batch systems and terminals; Windows has one.


class StoppedError(KeyboardInterrupt):
    """A signal asked the process to end.

    What cleans up after Ctrl-C cleans up after this too.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def stop_on_signals() -> None:
    """Makes these signals raise `StoppedError`; those that are ignored, as by nohup, stay so."""
    if threading.current_thread() is not threading.main_thread():
        return
    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, _: FrameType | None) -> None:
    for name in _NAMES:
        if (other := getattr(signal, name, None)) is not None:
            signal.signal(other, signal.SIG_IGN)  # Cleaning up isn't interrupted again.
    raise StoppedError(number)
