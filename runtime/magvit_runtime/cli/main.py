"""The entry point of `magvit`: finds the command, prints its outcome, sets the exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from magvit_runtime.cli.messages import logs_are_json, say_failed, say_stopped
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.signals import StopSignals
from magvit_runtime.cli.streams import drop_what_is_left, json_text, take_any_text
from magvit_runtime.errors import InputError, MagvitError
from magvit_runtime.hardware.packages import missing_package
from magvit_runtime.logs import LogSetting, configure_command

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def build_app(arguments: Sequence[str]) -> App:
    """The application, with the commands that installed packages name as entry points.

    Their modules are imported when they run, or all of them where help may list them.
    """
    app = App(
        name="magvit",
        help="Tokens and classes for trajectory videos, from PyTorch checkpoints, without torch.",
        version=lambda: version("magvit-runtime"),
        result_action="return_value",
        suppress_keyboard_interrupt=False,  # `main` reports it as it does all else.
        console=Console(),
        error_console=Console(stderr=True),
        # Else it draws a box around what is wrong.
        print_error=not logs_are_json(),
        exit_on_error=not logs_are_json(),
    )
    lists_commands = all(argument.startswith("-") for argument in arguments)
    for point in entry_points(group="magvit.commands"):
        app.command(point.load() if lists_commands else point.value, name=point.name)

    app.meta.suppress_keyboard_interrupt = False

    @app.meta.default
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        json: Annotated[bool, Parameter(negative="")] = False,
    ) -> int:
        """Runs a command.

        Args:
            tokens: The command and its arguments.
            json: Print the result as one JSON document.
        """
        outcome = app(tokens)
        if not isinstance(outcome, Outcome):  # Help and version print for themselves.
            return EXIT_DONE
        # Flushed here, where a reader that has gone, or a full disk, can still be told of.
        print(json_text(outcome.facts) if json else outcome.text, flush=True)
        return EXIT_DONE if outcome.passed else EXIT_FAILED

    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `magvit`.

    Exit codes: 0 done, 1 failed (work or check), 2 wrong usage or input, 128 + N stopped by the
    signal N (130 by Ctrl-C).
    """
    take_any_text()
    signals = StopSignals()
    try:
        with signals.heard():
            _run(sys.argv[1:] if arguments is None else arguments)
    # Also what a library made of it, and the exit of a command that said it in its own words.
    except BaseException as error:
        if signals.number is None:
            raise
        if not isinstance(error, SystemExit):
            say_stopped(signal.Signals(signals.number).name, signals.exit_code)
        sys.exit(signals.exit_code)


def _run(arguments: Sequence[str]) -> None:
    try:
        configure_command(LogSetting.here())
        sys.exit(build_app(arguments).meta(arguments))
    except CycloptsError as error:
        _fail(InputError(str(error)), EXIT_USAGE)
    except InputError as error:
        _fail(error, EXIT_USAGE)
    except MagvitError as error:
        _fail(error, EXIT_FAILED)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("magvit"):
            raise
        _fail(missing_package(error.name, "this command"), EXIT_FAILED)
    except BrokenPipeError:  # The reader of our output has gone; nobody is there to be told.
        drop_what_is_left()
        sys.exit(EXIT_FAILED)
    except MemoryError as error:
        mend = "take smaller clips or batches, or a machine with more memory"
        _fail(
            MagvitError("there isn't enough memory", found=str(error) or None, mend=mend),
            EXIT_FAILED,
        )
    except OSError as error:  # Readers and writers report what they can.
        drop_what_is_left()
        _fail(MagvitError("a file can't be read or written", found=error), EXIT_FAILED)


def _fail(error: MagvitError, code: int) -> None:
    say_failed(error, code)
    sys.exit(code)
