"""Clocks, power and throttling, as the driver's tool tells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from magvit_runtime.hardware.gpu_states import GpuState, gpu_states, state_text

LINES = """\
GPU-1, 1410, 1980, 2619, 412.50, 700.00, 61, 0x0000000000000024
GPU-2, 210, 1770, 405, [N/A], [Not Supported], 34, 0x0000000000000001
GPU-3, [N/A], [N/A], [N/A], 9.1, 72.00, 40, [N/A]
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_figures_and_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "told").write_text(LINES)
    asked = tmp_path / "asked"
    install(tmp_path, monkeypatch, f'echo "$@" > {asked}; cat {tmp_path}/told')
    first, second, third = gpu_states()
    caps = ("software power cap", "software thermal slowdown")
    assert first == GpuState("GPU-1", 1410, 1980, 2619, 412.5, 700, 61, caps)
    assert second == GpuState("GPU-2", 210, 1770, 405, None, None, 34, ("idle",))
    assert third == GpuState("GPU-3", None, None, None, 9.1, 72, 40, ())
    assert "clocks.sm,clocks.max.sm" in asked.read_text()
    assert state_text(first) == (
        "1410 of 1980 MHz, memory 2619 MHz, 412 of 700 W, 61 °C, held back by software power cap, "
        "software thermal slowdown"
    )
    assert state_text(third) == "? of ? MHz, memory ? MHz, 9 of 72 W, 40 °C"


@pytest.mark.parametrize("script", ["exit 9", "echo no device", "true"])
def test_a_tool_that_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    install(tmp_path, monkeypatch, script)
    assert gpu_states() == ()


def test_without_the_tool_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_states() == ()
