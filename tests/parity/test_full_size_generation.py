"""Autoregressive models of the released sizes: their speed beside PyTorch's, and that they run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_runtime import Generator

SCRIPT = Path(__file__).parents[2] / "docs" / "measure" / "generation.py"
RATIO = re.compile(r"^(fp32|int8): .* ms a token .*, (\d+\.\d+) of PyTorch", re.MULTILINE)


@pytest.mark.nightly
@pytest.mark.alone
def test_b_is_faster_than_eager_pytorch_with_a_cache(tmp_path: Path) -> None:
    """In one run, by turns, on two threads; the script prints how 8 bits agree beside it."""
    command = [sys.executable, SCRIPT, "--rows", "2", "--agree", "--folder", tmp_path / "bundle"]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=True
    )
    print(done.stdout)
    ratios = {way: float(ratio) for way, ratio in RATIO.findall(done.stdout)}
    assert ratios["fp32"] <= 0.45
    assert ratios["int8"] <= 0.2
    # What float32 samples is what PyTorch samples.
    (line,) = (one for one in done.stdout.splitlines() if one.startswith("fp32: "))
    assert "100% of 32 sampled tokens are PyTorch's" in line


@pytest.mark.nightly
@pytest.mark.parametrize("size", ["l", "xl"])
def test_larger_sizes_export_and_generate(tmp_path: Path, size: str) -> None:
    """A row of 16 tokens, by weights of 8 bits."""
    entry = find_model(f"open-magvit2-ar-{size}")
    export_model(entry, tmp_path / "bundle", weights="seeded", precision="int8")
    with Generator.open(tmp_path / "bundle", threads=2) as generator:
        row = next(generator.stream([207], seed=0))
        assert row.shape == (1, 16)
        assert len(np.unique(row)) > 8
        assert generator.sampling == entry.sampling
