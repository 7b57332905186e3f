"""What the driver's tool lists, and what becomes of its failures."""

from __future__ import annotations

from pathlib import Path

import pytest

from magvit_runtime.engines import Gpu, list_gpus


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the driver's tool, first on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "nvidia-smi"


def write(script: Path, text: str) -> None:
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)


def test_two_gpus(nvidia_smi: Path) -> None:
    write(
        nvidia_smi,
        "echo 'NVIDIA L4, 8.9, 580.159, 23034, 22000'\necho 'Tesla T4, 7.5, 580.159, 15360, 15000'",
    )
    assert list_gpus() == (
        Gpu("NVIDIA L4", "8.9", "580.159", 23034, 22000),
        Gpu("Tesla T4", "7.5", "580.159", 15360, 15000),
    )


@pytest.mark.parametrize("text", ["exit 9", "echo 'No devices were found'", "true"])
def test_no_gpu(nvidia_smi: Path, text: str) -> None:
    write(nvidia_smi, text)
    assert list_gpus() == ()
