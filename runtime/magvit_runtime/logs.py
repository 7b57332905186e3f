"""What this package logs: as text or as lines of JSON, of the level that MAGVIT_LOG names.

The package only hands records to Python's `logging`. A service that sets up logging itself needs
nothing from here, except `JsonFormatter` for such lines. One that doesn't calls `configure`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType

from magvit_runtime.errors import InputError

VARIABLE = "MAGVIT_LOG"
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
# What every record has; whatever else one has was passed as `extra`, and is a field of its line.
_OF_EVERY_RECORD = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}


@dataclass(frozen=True)
class LogSetting:
    """How records are written.

    Attributes:
        is_json: As lines of JSON; else as text.
        level: The least level that is written, as `logging` numbers it; None is warnings.
    """

    is_json: bool = False
    level: int | None = None

    @classmethod
    def parse(cls, text: str) -> LogSetting:
        """Reads "json", a level, or both with a comma between; "" is text from warnings on.

        Raises:
            InputError: It is something else.
        """
        words = [word.strip().lower() for word in text.split(",") if word.strip()]
        levels = [word for word in words if word in _LEVELS]
        if len(levels) > 1 or any(word not in _LEVELS and word != "json" for word in words):
            raise InputError(
                f"{VARIABLE} says nothing of use",
                found=repr(text),
                expected=f"json, one of {', '.join(_LEVELS)}, or both as in json,info",
                mend=f"set {VARIABLE} to one of these, or unset it",
            )
        return cls("json" in words, _LEVELS[levels[0]] if levels else None)

    @classmethod
    def here(cls) -> LogSetting:
        """What the environment says.

        Raises:
            InputError: It says something that isn't known.
        """
        return cls.parse(os.environ.get(VARIABLE, ""))


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII.

    Its keys are `time` (ISO 8601, UTC), `level` ("info"), `logger`, `message`, what the record got
    as `extra`, and `exception` with the traceback where there is one. What isn't JSON is written as
    Python prints it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, without its end."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        line = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = {k: v for k, v in vars(record).items() if k not in _OF_EVERY_RECORD}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields | line, default=str)


class _StandardError(logging.Handler):
    """Writes to what is `sys.stderr` at the time: a progress bar puts itself there."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def configure(setting: LogSetting | None = None) -> None:
    """Writes this package's records to standard error, for a service that hasn't set up logging.

    They no longer reach the handlers of the root logger. A second call takes the first one's place.

    Args:
        setting: How they are written; None is as MAGVIT_LOG says.

    Raises:
        InputError: MAGVIT_LOG says something that isn't known.
    """
    chosen = LogSetting.here() if setting is None else setting
    for name in _packages():
        logger = logging.getLogger(name)
        logger.setLevel(chosen.level or logging.WARNING)
        logger.propagate = False
        for old in [one for one in logger.handlers if isinstance(one, _StandardError)]:
            logger.removeHandler(old)
        logger.addHandler(_handler(chosen))


def configure_command(setting: LogSetting) -> None:
    """Writes to standard error what a command's packages log, and warnings of all others.

    Args:
        setting: How records are written.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[_handler(setting)])
    if setting.is_json:  # Else Python writes these by itself, as text.
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
    if setting.level is not None:
        for name in _packages():
            logging.getLogger(name).setLevel(setting.level)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    text = f"{kind.__name__}: {error}"
    logging.getLogger("magvit_runtime").error("%s", text, exc_info=(kind, error, trace))


def _handler(setting: LogSetting) -> logging.Handler:
    handler = _StandardError()
    handler.setFormatter(JsonFormatter() if setting.is_json else logging.Formatter("%(message)s"))
    return handler


def _packages() -> set[str]:
    """This package and those that bring commands: the export side is one, if it is installed."""
    # Imported here, because it takes longer than all the rest of `import magvit_runtime`.
    from importlib.metadata import entry_points

    commands = entry_points(group="magvit.commands")
    return {"magvit_runtime", *(point.module.split(".")[0] for point in commands)}
