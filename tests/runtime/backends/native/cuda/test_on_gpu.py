"""The native session on this machine's GPU: the stand-in's tests on real hardware."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_runtime import Tokenizer
from magvit_runtime.agreement.signs import compare_latents
from magvit_runtime.backends.native.backend import why_no_cuda
from magvit_runtime.backends.native.cuda.session import CudaSession
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
