"""The tests' own folders neither hide an installed package nor look like one."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def test_only_their_root_is_on_the_path() -> None:
    on_path = {Path(entry).resolve() for entry in sys.path}
    assert {path for path in on_path if path.is_relative_to(TESTS)} == {TESTS}


@pytest.mark.parametrize(
    "package", ["cuda", "cudnn", "onnx", "onnxruntime", "openvino", "tensorrt", "torch", "triton"]
)
def test_no_folder_of_tests_passes_for_a_package(package: str) -> None:
    """The runtime counts a module as installed if `find_spec` finds it."""
    found = PathFinder.find_spec(package)
    places = [] if found is None else [found.origin, *(found.submodule_search_locations or ())]
    assert not [place for place in places if place and Path(place).is_relative_to(TESTS)]
