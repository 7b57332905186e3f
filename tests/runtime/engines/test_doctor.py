"""`magvit doctor`: facts of this machine, and the state of each engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from magvit_runtime.diagnosis import cuda_targets
from magvit_runtime.native_libraries.lookup import plugin_library

MAGVIT = [sys.executable, "-c", "from magvit_runtime.cli.main import main; main()"]


def test_facts_and_text() -> None:
    text = subprocess.run([*MAGVIT, "doctor"], capture_output=True, text=True, check=True).stdout
    for line in ("python", "onnxruntime", "ORT providers", "GPU", "tensorrt", "plugins"):
        assert line in text
    run = subprocess.run([*MAGVIT, "--json", "doctor"], capture_output=True, text=True, check=True)
    facts = json.loads(run.stdout)
    assert facts["packages"]["magvit-runtime"]
    assert "CPUExecutionProvider" in facts["onnxruntime_providers"]
    assert set(facts["flavours"]) == {"tensorrt", "tensorrt-rtx"}


def test_a_gpu_that_rtx_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    gpu = "NVIDIA H100 80GB HBM3, 9.0, 580.159, 81559, 81000, GPU-00000000"
    tool.write_text(f"#!/bin/sh\necho '{gpu}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    text = subprocess.run([*MAGVIT, "doctor"], capture_output=True, text=True, check=True).stdout
    assert "NVIDIA H100 80GB HBM3, compute capability 9.0" in text
    assert "TensorRT-RTX does not support compute capability 9.0" in text


def test_a_cudnn_that_is_wrong_in_3d_convs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cudnn.py").write_text("def backend_version():\n    return 91002\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    text = subprocess.run([*MAGVIT, "doctor"], capture_output=True, text=True, check=True).stdout
    assert "native-cuda       this cuDNN is wrong or slow in 3-D convs" in text
    assert "found 9.10.2, expected 9.15.0 or newer" in text


def test_architectures_inside_the_plugin_library() -> None:
    library = plugin_library()
    if library is None:
        pytest.skip("libmagvit_plugins.so was not built: it needs nvcc and TensorRT's headers")
    targets = cuda_targets(library)
    assert {"sm_75", "sm_80", "sm_86", "sm_89", "sm_90"} <= set(targets)
