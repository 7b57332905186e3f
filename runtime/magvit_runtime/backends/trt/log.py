"""Passes TensorRT's messages on to Python's logging, and keeps errors for our messages."""

from __future__ import annotations

import logging
import threading
from functools import cache
from typing import Any

_LOG = logging.getLogger(__name__)
# The caller also raises an error with this message. Logged as well, it would hide the sentence
# that says how to fix it.
_LEVELS = {
    "INTERNAL_ERROR": logging.INFO,
    "ERROR": logging.INFO,
    "WARNING": logging.WARNING,
}
# TensorRT logs an error in the thread whose call failed, so each thread finds its own.
_ERRORS = threading.local()


@cache
def process_logger(trt: Any) -> Any:
    """The logger of a flavour; one per process, because TensorRT keeps using the first one.

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
    """Takes a message of TensorRT, from any thread.

    Args:
        severity: Name of a member of `ILogger.Severity`.
        message: What it says.
    """
    # The first of several errors is the cause.
    if severity.endswith("ERROR") and getattr(_ERRORS, "first", None) is None:
        _ERRORS.first = message
    _LOG.log(_LEVELS.get(severity, logging.DEBUG), "%s", message)


def take_error() -> str | None:
    """The first error in this thread since the last call of this function, or None."""
    error: str | None = getattr(_ERRORS, "first", None)
    _ERRORS.first = None
    return error
