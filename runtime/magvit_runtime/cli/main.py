"""The entry point of `magvit`: finds the command, prints its outcome, sets the exit code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from rich.console import Console

from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.errors import InputError, MagvitError
from magvit_runtime.hardware.packages import missing_package

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
    )
    lists_commands = all(argument.startswith("-") for argument in arguments)
    for point in entry_points(group="magvit.commands"):
        app.command(point.load() if lists_commands else point.value, name=point.name)

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
        print(msgspec.json.encode(outcome.facts).decode() if json else outcome.text)
        return EXIT_DONE if outcome.passed else EXIT_FAILED

    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `magvit`.

    Exit codes: 0 done, 1 failed (work or check), 2 wrong usage or input.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(build_app(arguments).meta(arguments))
    except InputError as error:
        _fail(error, EXIT_USAGE)
    except MagvitError as error:
        _fail(error, EXIT_FAILED)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("magvit"):
            raise
        _fail(missing_package(error.name, "this command"), EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit("magvit: interrupted")
    except BrokenPipeError:
        # The reader of our output has gone; say nothing more, also not at exit.
        sys.stderr.close()
        sys.exit(EXIT_FAILED)
    except OSError as error:  # A full disk, mostly: readers and writers report what they can.
        _fail(MagvitError("a file can't be read or written", found=error), EXIT_FAILED)


def _fail(error: MagvitError, code: int) -> None:
    print(f"magvit: {error}", file=sys.stderr)
    sys.exit(code)
