"""The choice of a backend for a graph, and its reason."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnxruntime
import pytest

from magvit_runtime import BackendError, InputError, Tokenizer, open_bundle
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.backends.onnx_runtime.backend import open_graph
from magvit_runtime.hardware.gpus import Gpu
from magvit_runtime.hardware.machine import Machine


@pytest.fixture
def graph(tiny_bundle: Path) -> Path:
    return tiny_bundle / "encode.fp32.onnx"


def test_the_choice_is_recorded_with_its_reason(tiny_bundle: Path) -> None:
    with Tokenizer.open(tiny_bundle, backend="onnxruntime", threads=1) as tokenizer:
        asked_for = tokenizer.capabilities
    assert (asked_for.backend, asked_for.version) == ("onnxruntime", onnxruntime.__version__)
    assert (asked_for.device, asked_for.precision, asked_for.threads) == ("CPU", "fp32", 1)
    assert asked_for.reason == "asked for"
    with Tokenizer.open(tiny_bundle) as tokenizer:
        assert tokenizer.capabilities.backend == "native"
        assert tokenizer.capabilities.reason == (
            "the bundle has no engine for it, and on a CPU the native backend is the fastest"
        )


def test_where_the_native_backend_cant_onnxruntime_does(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse = Mock(side_effect=BackendError("the library is missing"))
    monkeypatch.setattr("magvit_runtime.backends.native.cpu.session.CpuExecutor", refuse)
    with Tokenizer.open(tiny_bundle) as tokenizer:
        found = tokenizer.capabilities
    assert found.backend == "onnxruntime"
    assert found.reason.startswith("native fp32 can't be opened: the library is missing; ")
    assert caplog.messages == [
        "native fp32 can't be opened: the library is missing; another backend is used instead"
    ]
    with pytest.raises(BackendError, match="the library is missing"):
        Tokenizer.open(tiny_bundle, backend="native")


def test_on_a_gpu_onnxruntime_comes_first(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = "magvit_runtime.backends.onnx_runtime.backend._is_built_for_gpus"
    monkeypatch.setattr(built, lambda: True)
    machine = Machine()
    machine.gpus = (Gpu("NVIDIA L4", "8.9", "580", 23034, 22000, "GPU-1"),)
    first, *_, last = list_candidates(open_bundle(tiny_bundle), machine=machine).fit
    assert (first.subject, last.subject) == ("onnxruntime fp32", "native fp32")
    assert first.reason.endswith("ONNX Runtime can use the GPU")


def test_a_session_gives_the_outputs_that_were_asked_for_in_order(graph: Path) -> None:
    session = open_graph(graph, precision="fp32")
    frames = np.zeros((1, 1, 8, 8, 3), np.uint8)
    latents, ids = session.run({"frames": frames}, ["latents", "ids"])
    assert (latents.dtype, ids.dtype) == (np.float32, np.int32)
    (only,) = session.run({"frames": frames}, ["ids"])
    np.testing.assert_array_equal(only, ids)
    session.close()


def test_an_unknown_backend_lists_those_there_are(tiny_bundle: Path) -> None:
    with pytest.raises(InputError) as error:
        Tokenizer.open(tiny_bundle, backend="abacus")
    assert str(error.value).startswith(
        "no backend is named 'abacus': expected auto, native, native-cuda"
    )


@pytest.mark.parametrize("threads", [0, -2])
def test_threads_must_be_positive(tiny_bundle: Path, threads: int) -> None:
    with pytest.raises(InputError) as error:
        Tokenizer.open(tiny_bundle, threads=threads)
    assert str(error.value) == f"`threads` must be positive: found {threads}"


def test_a_graph_that_cant_be_loaded(tmp_path: Path) -> None:
    graph = tmp_path / "junk.onnx"
    graph.write_bytes(b"junk")
    with pytest.raises(BackendError) as error:
        open_graph(graph, precision="fp32")
    assert str(error.value).startswith(f"ONNX Runtime can't load {graph}: found ")
    assert "\n" not in str(error.value)


def test_a_failing_run_is_a_backend_error(graph: Path) -> None:
    session = open_graph(graph, precision="fp32")
    with pytest.raises(BackendError, match="ONNX Runtime failed: found "):
        session.run({"frames": np.zeros((1, 1, 8, 8, 3), np.float32)}, ["ids"])
