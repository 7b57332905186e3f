"""Every error a user can meet: one base, one sentence, and how to fix it."""

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
        super().__init__(f"{message}. Fix: {mend}" if mend else message)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles the words alone: pools of processes hang on an error that can't be unpickled.

        What was found may be anything, and not every class is made of `what`.
        """
        facts = vars(self) | {"found": _words(self.found), "expected": _words(self.expected)}
        return _blank, (type(self), str(self)), facts


def _words(value: object) -> str | None:
    return None if value is None else str(value)


def _blank(kind: type[MagvitError], message: str) -> MagvitError:
    return kind.__new__(kind, message)


class BundleError(MagvitError):
    """A bundle directory is missing, damaged, unsafe or of another schema version."""


class BackendError(MagvitError):
    """No backend on this machine can run what was asked for."""


class MissingPackageError(BackendError):
    """A package that an extra brings isn't installed.

    Args:
        package: Its name.
        extras: Extras of magvit-runtime that bring it, the usual one first; none for a package
            of others.
        purpose: What needs it.
    """

    def __init__(self, package: str, *extras: str, purpose: str) -> None:
        self.package = package
        self.extras = extras
        first, *others = [f"[{extra}]" for extra in extras] or [""]
        mend = f"pip install 'magvit-runtime{first}'" if first else f"pip install {package}"
        if others:
            mend += f" (or {', '.join(others)})"
        super().__init__(f"{purpose} needs {package}, which isn't installed", mend=mend)


class InputError(MagvitError):
    """An array, file or option given by the caller can't be used."""


class TrajectoryError(InputError):
    """A trajectory file can't be read, or holds no usable trajectory."""


def first_line(error: BaseException) -> str:
    """The first line of what another library's error says, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
