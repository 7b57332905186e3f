"""What a command says on standard error: text, or lines of JSON where MAGVIT_LOG asks for them."""

from __future__ import annotations

import logging
import sys

from magvit_runtime.errors import InputError, MagvitError
from magvit_runtime.logs import LogSetting

_LOG = logging.getLogger("magvit_runtime.cli")


def logs_are_json() -> bool:
    """Whether standard error takes lines of JSON, and nothing else."""
    try:
        return LogSetting.here().is_json
    except InputError:  # The command says so, as text.
        return False


def say(text: str) -> None:
    """Says what isn't the command's result, and nothing wrong."""
    if logs_are_json():
        _LOG.info("%s", text)
    else:
        print(text, file=sys.stderr)


def say_stopped(signal_name: str, code: int) -> None:
    """Says that a signal ended the command."""
    text = f"stopped by {signal_name}"
    if logs_are_json():
        _LOG.error("%s", text, extra={"exit_code": code})
    else:
        print(f"magvit: {text}", file=sys.stderr)


def say_failed(error: MagvitError, code: int) -> None:
    """Says why the command failed."""
    if logs_are_json():
        facts = {"error": type(error).__name__, **vars(error), "exit_code": code}
        _LOG.error("%s", error, extra=facts)
    else:
        print(f"magvit: {error}", file=sys.stderr)
