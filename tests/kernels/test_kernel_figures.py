"""The passes as nvcc compiles them: nothing spills, and whole waves of blocks fill GPUs."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "measure" / "kernel_figures.py"
# One architecture: each takes a quarter of a minute.
ARCHITECTURE = 90

for _tool, _home in (("nvcc", "the CUDA toolkit"), ("c++filt", "binutils")):
    if shutil.which(_tool) is None:
        pytest.skip(f"{_tool} is not on the PATH; it comes with {_home}", allow_module_level=True)


@pytest.fixture(scope="module")
def figures() -> Iterator[ModuleType]:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT.stem] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[SCRIPT.stem]


@pytest.fixture(scope="module")
def kernels(figures: ModuleType) -> Any:
    nvdisasm = shutil.which("nvdisasm")
    return figures.compile_kernels(ARCHITECTURE, None if nvdisasm is None else Path(nvdisasm))


def test_no_kernel_spills(kernels: Any) -> None:
    assert {kernel.name.split("<")[0] for kernel in kernels} == {
        "ApplyChannelsLast",
        "ChannelsLastStatistics",
    }
    assert [kernel.name for kernel in kernels if kernel.spilled_bytes > 0] == []


def test_as_many_blocks_fit_at_once_as_planned(kernels: Any) -> None:
    for kernel in kernels:
        if kernel.name.startswith("Apply"):
            planned = 2 if kernel.name.endswith("float>") else 3
        else:
            planned = 1
        assert kernel.resident_blocks >= planned, kernel


def test_the_threads_of_a_warp_stay_together_in_the_loops(kernels: Any) -> None:
    if shutil.which("nvdisasm") is None:
        pytest.skip("nvdisasm is not on the PATH; the CUDA toolkit and triton's wheel have it")
    for kernel in kernels:
        assert kernel.loop is not None, kernel.name
        assert kernel.loop.divergence_regions <= 1, kernel


def test_the_maps_of_the_released_encoder_fill_one_wave(figures: ModuleType) -> None:
    cases = [
        (batch, frames * height * width, channels, multiprocessors, blocks * multiprocessors)
        for _, _, multiprocessors in figures.GPUS
        for blocks in (2, 3)
        for batch in figures.BATCHES
        for frames, height, width, channels in figures.MAPS
    ]
    for case, planned in zip(cases, figures.plan_blocks(cases), strict=True):
        batch, positions, _, *residents = case
        for blocks, resident in zip(planned, residents, strict=True):
            assert blocks <= resident, case
            # The two lowest levels at batch 1, and the lowest at batch 8, are too small for a GPU.
            if batch * positions > 8 * 5 * 16 * 16:
                assert blocks >= 0.8 * resident, case
