"""The native session on this machine's GPU: the stand-in's tests on real hardware."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from runtime.backends.native.cuda.small_programs import (
    SIZES,
    reference,
    relative_error,
    residual_block,
)

from magvit_runtime import Detokenizer, Tokenizer
from magvit_runtime.agreement.limits import PIXEL_LIMITS
from magvit_runtime.agreement.signs import compare_latents
from magvit_runtime.backends.native.backend import why_no_cuda
from magvit_runtime.backends.native.cuda import cudnn_tuning
from magvit_runtime.backends.native.cuda.executor import open_cuda_executor
from magvit_runtime.backends.native.cuda.session import CudaSession
from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.hardware.machine import Machine

CLIP = (5, 32, 32, 3)


@pytest.fixture(scope="module")
def session(request: pytest.FixtureRequest) -> Iterator[CudaSession]:
    if reason := why_no_cuda(Machine(), "fp32"):
        pytest.skip(reason)
    graph: Path = request.getfixturevalue("tiny_bundle") / "encode.fp32.onnx"
    with CudaSession(graph, precision="fp32", reason="a test", workers=2) as session:
        session.warm_up((4, *CLIP))
        yield session


def clips_of(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *CLIP), np.uint8)


def ids_of(session: CudaSession, clips: NDArray[np.uint8]) -> NDArray[Any]:
    return session.run({"frames": clips}, ["ids"])[0]


def test_a_batch_that_is_filled_up_agrees_with_onnx_runtime(
    session: CudaSession, tiny_bundle: Path
) -> None:
    clips = clips_of(3)
    ids_of(session, clips_of(4, seed=9))
    ids, latents = session.run({"frames": clips}, ["ids", "latents"])
    with Tokenizer.open(tiny_bundle, backend="onnxruntime") as tokenizer:
        agreement = compare_latents(latents, tokenizer.latents(clips), ids)
    assert agreement.passes("fp32")
    assert "failed" not in session.capabilities.launches


def test_tensors_of_torch_give_the_same_ids(session: CudaSession) -> None:
    torch = pytest.importorskip("torch", reason="pip install torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    for count in (4, 3):
        expected = ids_of(session, clips_of(count))
        for stream in (torch.cuda.default_stream(), torch.cuda.Stream()):
            with torch.cuda.stream(stream):
                on_gpu = torch.from_numpy(clips_of(count)).cuda(non_blocking=True)
                (ids,) = session.run_device({"frames": on_gpu}, ["ids"])
                np.testing.assert_array_equal(torch.from_dlpack(ids).cpu().numpy(), expected)


def test_threads_get_their_own_results(session: CudaSession) -> None:
    batches = [clips_of(1 + seed % 4, seed) for seed in range(32)]
    expected = [ids_of(session, clips) for clips in batches]
    with ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda clips: ids_of(session, clips), batches)
        for wanted, ids in zip(expected, found, strict=True):
            np.testing.assert_array_equal(ids, wanted)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_frames_of_ids_agree_with_the_cpu(
    session: CudaSession,  # noqa: ARG001 - skips without a GPU
    tiny_ibq_bundle: Path,
    precision: Precision,
) -> None:
    ids = np.random.default_rng(1).integers(0, 6000, (3, 16, 16), np.int32)
    with Detokenizer.open(tiny_ibq_bundle, backend="native", batch_size=3) as on_cpu:
        expected = on_cpu(ids)
    options = {"backend": "native-cuda", "precision": precision, "batch_size": 3}
    with Detokenizer.open(tiny_ibq_bundle, **options) as detokenizer:
        for _ in range(3):  # Plain, captured, replayed.
            errors = np.abs(detokenizer(ids).astype(int) - expected)
            assert errors.max() <= PIXEL_LIMITS[precision].max
            assert np.sqrt(np.mean(errors**2)) <= PIXEL_LIMITS[precision].rms


def test_frames_of_a_video_agree_with_the_cpu(
    session: CudaSession,  # noqa: ARG001 - skips without a GPU
    tiny_bundle: Path,
) -> None:
    ids = np.random.default_rng(1).integers(0, 2**18, (2, 3, 8, 8), np.int32)
    with Detokenizer.open(tiny_bundle, backend="native", batch_size=2) as on_cpu:
        expected = on_cpu(ids)
    with Detokenizer.open(tiny_bundle, backend="native-cuda", batch_size=2) as detokenizer:
        for _ in range(3):
            assert np.abs(detokenizer(ids).astype(int) - expected).max() <= 1


def test_tokens_of_a_codebook_agree_with_the_cpu(
    session: CudaSession,  # noqa: ARG001 - skips without a GPU
    tiny_ibq_bundle: Path,
) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    options = {"precision": "fp32", "batch_size": 3}
    with Tokenizer.open(tiny_ibq_bundle, backend="native", **options) as on_cpu:
        expected = on_cpu.latents(images)
    with Tokenizer.open(tiny_ibq_bundle, backend="native-cuda", **options) as tokenizer:
        latents = tokenizer.latents(images)
    assert np.sqrt(np.mean((latents - expected) ** 2)) <= 5e-5 * expected.std()


@pytest.mark.parametrize("residual", [True, False])
def test_convs_of_our_own_compute_what_they_say(
    session: CudaSession,  # noqa: ARG001 - skips without a GPU
    monkeypatch: pytest.MonkeyPatch,
    residual: bool,
) -> None:
    """Where the GPU has them, they are taken however long they take."""
    monkeypatch.setattr(cudnn_tuning, "_OWN_SHARE", 1e6)
    program = residual_block(residual=residual)
    frames = np.random.default_rng(0).integers(0, 256, (2, *SIZES, 3), np.uint8)
    expected = np.moveaxis(reference(program, frames), -1, 1)
    executor = open_cuda_executor(program, "fp16", None)
    try:
        found = [executor.run({"frames": frames}, ["latents"])[0] for _ in range(3)]
    finally:
        executor.close()
    for latents in found:  # Plain, captured, replayed.
        assert relative_error(latents, expected) < 3e-3
        np.testing.assert_array_equal(latents, found[0])
