"""What TensorRT says: passed on to Python's logging, with the last error kept for our messages."""

from __future__ import annotations

import logging
import threading
from functools import cache
from typing import Any

_LOG = logging.getLogger(__name__)
# An error is also raised, with its message, by whoever made the call: told twice, it would hide
# the sentence that says how to mend it.
_LEVELS = {
    "INTERNAL_ERROR": logging.INFO,
    "ERROR": logging.INFO,
    "WARNING": logging.WARNING,
}
# TensorRT logs an error in the thread whose call failed, so each thread finds its own.
_ERRORS = threading.local()


@cache
def process_logger(trt: Any) -> Any:
    """The logger of a flavour; one a process, since TensorRT goes on using the first it was given.

    Args:
        trt: Module of the flavour.
    """

    class Logger(trt.ILogger):  # type: ignore[misc] # The base is known only when it is imported.
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            record_message(severity.name, msg)

    return Logger()


def record_message(severity: str, message: str) -> None:
    """Takes a message of TensorRT, of any thread.

    Args:
        severity: Name of a member of `ILogger.Severity`.
        message: What it says.
    """
    # The first of several errors is the cause.
    if severity.endswith("ERROR") and getattr(_ERRORS, "first", None) is None:
        _ERRORS.first = message
    _LOG.log(_LEVELS.get(severity, logging.DEBUG), "%s", message)


def take_error() -> str | None:
    """The first error that this thread met since it last asked; None where there was none."""
    error: str | None = getattr(_ERRORS, "first", None)
    _ERRORS.first = None
    return error
