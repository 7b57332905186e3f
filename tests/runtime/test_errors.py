"""Errors that go from one process to another."""

from __future__ import annotations

import pickle
import threading

import pytest

from magvit_runtime import (
    BackendError,
    BundleError,
    InputError,
    MagvitError,
    MissingPackageError,
    TrajectoryError,
)

ERRORS = [
    BackendError("it can't run", found="nothing", expected="something", mend="mend it"),
    BundleError("there is no bundle"),
    MissingPackageError("PyAV", "video", purpose="reading a video"),
    # Neither of these can be pickled itself.
    InputError("this is wrong", found=threading.Lock()),
    TrajectoryError("this is wrong too", expected=lambda: None),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_arrives_with_its_words(error: MagvitError, protocol: int) -> None:
    found = pickle.loads(pickle.dumps(error, protocol))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert (found.what, found.mend) == (error.what, error.mend)
    assert found.found == (None if error.found is None else str(error.found))


def test_what_a_class_of_its_own_knows_arrives_too() -> None:
    found = pickle.loads(pickle.dumps(ERRORS[2]))
    assert (found.package, found.extras) == ("PyAV", ("video",))
