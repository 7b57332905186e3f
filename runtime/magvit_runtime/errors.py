"""Every error a user can meet: one base, one sentence, and how to mend it."""

from __future__ import annotations


class MagvitError(Exception):
    """Base of all errors that this package raises on purpose.

    Args:
        what: What is wrong, naming the file, key, row or tensor.
        found: What was there.
        expected: What should have been there.
        mend: The command or action that mends it.
    """

    def __init__(
        self,
        what: str,
        *,
        found: object = None,
        expected: object = None,
        mend: str | None = None,
    ) -> None:
        self.what = what
        self.found = found
        self.expected = expected
        self.mend = mend
        facts = [
            f"{name} {value}"
            for name, value in (("found", found), ("expected", expected))
            if value is not None
        ]
        message = what + (f": {', '.join(facts)}" if facts else "")
        super().__init__(f"{message}. To mend it: {mend}" if mend else message)


class BundleError(MagvitError):
    """A bundle directory is missing, damaged, unsafe or of another schema version."""


class BackendError(MagvitError):
    """No backend on this machine can run what was asked for."""


class InputError(MagvitError):
    """An array, file or option given by the caller can't be used."""


class TrajectoryError(InputError):
    """A trajectory file can't be read, or holds no usable trajectory."""


def first_line(error: BaseException) -> str:
    """The first line of what another library's error says, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
