"""The native session on a GPU, as its callers see it: batches, workers, arrays on the device.

The GPU is the stand-in, as in `test_executor.py`, which tests the computed values.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from runtime import stand_in_gpu
from runtime.stand_in_arrays import DlpackArray, host_copy
from runtime.stand_in_cudnn import NumpyConvs, operators_on
from runtime.stand_in_gpu import Cuda

from magvit_runtime import Detokenizer, Tokenizer
from magvit_runtime.backends.native import backend
from magvit_runtime.backends.native.cuda import executor as cuda_executor
from magvit_runtime.backends.native.cuda.session import CudaSession
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.native_libraries.cuda_operators import CudaOperators

CLIP = (1, 8, 8, 3)  # Kernels on the CPU are slow.
HOST_TO_DEVICE, DEVICE_TO_HOST, ON_DEVICE = 1, 2, 3
IDS_BYTES, LATENTS_BYTES, CLIP_BYTES = 4 * 4 * 4, 18 * 4 * 4 * 4, 8 * 8 * 3


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return stand_in_gpu.install(monkeypatch)[0]


@pytest.fixture
def convs(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> NumpyConvs:
    """The convs of the sessions that are opened; cuDNN and our library are the stand-ins'."""
    convs = NumpyConvs(cuda, lambda geometry: geometry.paddings[-1])
    monkeypatch.setattr(cuda_executor, "load_cuda_operators", lambda: operators_on(cuda))
    monkeypatch.setattr(cuda_executor, "import_cudnn", lambda: SimpleNamespace(backend_version=int))
    monkeypatch.setattr(cuda_executor, "CudnnConvs", lambda *_: convs)
    return convs


@pytest.fixture
def open_session(
    convs: NumpyConvs,  # noqa: ARG001 - opening takes them
    tiny_bundle: Path,
) -> Callable[..., CudaSession]:
    def open_session(workers: int = 1) -> CudaSession:
        graph = tiny_bundle / "encode.fp32.onnx"
        return CudaSession(graph, precision="fp32", reason="asked for", workers=workers)

    return open_session


Open = Callable[..., CudaSession]


def clips_of(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *CLIP), np.uint8)


def ids_of(session: CudaSession, clips: NDArray[np.uint8]) -> NDArray[Any]:
    return session.run({"frames": clips}, ["ids"])[0]


def alone(session: CudaSession, clips: NDArray[np.uint8]) -> NDArray[Any]:
    """Ids of each clip as a separate batch, in a session that knows this size."""
    return np.concatenate([ids_of(session, clip[None]) for clip in clips])


def test_what_it_says_of_itself(cuda: Cuda, open_session: Open) -> None:
    with open_session() as session:
        ids, latents = session.run({"frames": clips_of(1)}, ["ids", "latents"])
        session.run({"frames": clips_of(1)}, ["ids"])
        assert (ids.shape, latents.shape) == ((1, 1, 4, 4), (1, 18, 1, 4, 4))
        facts = session.capabilities
        assert facts.backend == "native-cuda"
        assert facts.device == "Stand-in GPU (compute capability 8.9)"
        assert (facts.workers, facts.threads, facts.device_arrays) == (1, 0, True)
        assert facts.launches == "CUDA graphs, captured for each shape"
    assert not cuda.blocks


# Outputs.


def test_only_what_is_asked_for_is_made_and_copied(
    cuda: Cuda, open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    channels_first = CudaOperators.channels_first

    def spy(self: CudaOperators, features: Any, output: int, stream: int) -> None:
        written.append(output)
        channels_first(self, features, output, stream)

    monkeypatch.setattr(CudaOperators, "channels_first", spy)
    with open_session() as session:
        for _ in range(3):
            session.run({"frames": clips_of(2)}, ["ids"])
        assert cuda.copies[DEVICE_TO_HOST] == [2 * IDS_BYTES] * 3
        assert not written
        latents, ids = session.run({"frames": clips_of(2)}, ["latents", "ids"])
        assert cuda.copies[DEVICE_TO_HOST][3:] == [2 * LATENTS_BYTES, 2 * IDS_BYTES]
        assert len(written) == 1
        powers = 1 << np.arange(18).reshape(18, 1, 1, 1)
        np.testing.assert_array_equal(ids, ((latents > 0) * powers).sum(1))
        np.testing.assert_array_equal(ids, ids_of(session, clips_of(2)))


def test_each_set_of_outputs_has_a_graph(cuda: Cuda, open_session: Open) -> None:
    with open_session() as session:
        for outputs in (["ids"], ["latents"], ["ids", "latents"]):
            results = [session.run({"frames": clips_of(1, s)}, outputs) for s in (1, 2, 1)]
            for first, last in zip(results[0], results[2], strict=True):
                np.testing.assert_array_equal(first, last)
        # One for ids alone, one for both other sets.
        assert len(cuda.live["executable"]) == 2
    assert not cuda.live["executable"]


# Batches.


def test_clips_that_fit_a_known_batch_are_planned_no_more(
    convs: NumpyConvs, open_session: Open
) -> None:
    with open_session() as session:
        ids_of(session, clips_of(3, seed=9))
        planned = len(convs.planned)
        # The frames after those of a smaller batch are the last run's.
        smaller = {count: ids_of(session, clips_of(count, count)) for count in (2, 1)}
        assert len(convs.planned) == planned
        session.warm_up((1, *CLIP))
        assert len(convs.planned) > planned
        for count, ids in smaller.items():
            np.testing.assert_array_equal(ids, alone(session, clips_of(count, count)))


def test_clips_that_fit_no_known_batch_are_planned(convs: NumpyConvs, open_session: Open) -> None:
    with open_session() as session:
        for count in (1, 2):
            ids_of(session, clips_of(count))
    assert {geometry.batch for geometry in convs.planned} == {1, 2}


def test_a_smaller_batch_copies_only_its_own_clips(cuda: Cuda, open_session: Open) -> None:
    with open_session() as session:
        session.warm_up((2, *CLIP))
        ids_of(session, clips_of(1))
    assert cuda.copies[HOST_TO_DEVICE][-1] == CLIP_BYTES
    assert cuda.copies[DEVICE_TO_HOST] == [IDS_BYTES]


def test_warm_up_leaves_nothing_to_the_first_call(
    cuda: Cuda, convs: NumpyConvs, open_session: Open
) -> None:
    with open_session() as session:
        for batch in (3, 1):
            session.warm_up((batch, *CLIP))
        # Of two sizes, with and without latents.
        assert len(cuda.live["executable"]) == 4
        assert {geometry.batch for geometry in convs.planned} == {1, 3}
        before = cuda.allocations, len(convs.planned), cuda.calls.count("replay")
        session.run({"frames": clips_of(1)}, ["ids"])
        session.run({"frames": clips_of(2)}, ["ids", "latents"])
        after = cuda.allocations, len(convs.planned), cuda.calls.count("replay")
        assert after == (*before[:2], before[2] + 2)


@pytest.mark.parametrize("shape", [(0, *CLIP), CLIP, (1, 3, 8, 8, 4)])
def test_shapes_that_cant_come_arent_warmed_up(open_session: Open, shape: tuple[int, ...]) -> None:
    with (
        open_session() as session,
        pytest.raises(InputError, match=r"expected frames uint8 \[N, T, H, W, 3\]"),
    ):
        session.warm_up(shape)


# Arrays on the device.


def test_clips_and_results_stay_on_the_device(cuda: Cuda, open_session: Open) -> None:
    with open_session() as session:
        expected = session.run({"frames": clips_of(3)}, ["latents", "ids"])
        copies = {kind: len(sizes) for kind, sizes in cuda.copies.items()}
        for shift in (0, 5):  # It is copied on the device, so it may begin anywhere.
            clips = DlpackArray(cuda, clips_of(3), shift)
            results = session.run_device({"frames": clips}, ["latents", "ids"])
            for wanted, result in zip(expected, results, strict=True):
                assert (result.shape, result.dtype) == (wanted.shape, wanted.dtype)
                np.testing.assert_array_equal(host_copy(cuda, result), wanted)
        assert len(cuda.copies[HOST_TO_DEVICE]) == copies[HOST_TO_DEVICE]
        assert len(cuda.copies[DEVICE_TO_HOST]) == copies[DEVICE_TO_HOST]
        assert cuda.copies[ON_DEVICE][-3:] == [3 * CLIP_BYTES, 3 * LATENTS_BYTES, 3 * IDS_BYTES]
        assert "replay" in cuda.calls


def test_a_smaller_batch_on_the_device(cuda: Cuda, convs: NumpyConvs, open_session: Open) -> None:
    with open_session() as session:
        expected = ids_of(session, clips_of(4))
        planned = len(convs.planned)
        clips = DlpackArray(cuda, clips_of(4)[:2])
        (ids,) = session.run_device({"frames": clips}, ["ids"])
        assert ids.shape == (2, *expected.shape[1:])
        np.testing.assert_array_equal(host_copy(cuda, ids), expected[:2])
        assert len(convs.planned) == planned


def test_results_on_the_device_outlive_the_session(cuda: Cuda, open_session: Open) -> None:
    with open_session() as session:
        expected = ids_of(session, clips_of(2, seed=1))
        (ids,) = session.run_device({"frames": DlpackArray(cuda, clips_of(2, seed=1))}, ["ids"])
        ids_of(session, clips_of(2, seed=2))
    np.testing.assert_array_equal(host_copy(cuda, ids), expected)
    pointer = ids.pointer
    del ids
    gc.collect()
    assert pointer not in cuda.blocks


def test_stage_times_are_of_host_arrays(cuda: Cuda, open_session: Open) -> None:
    with open_session() as session:
        assert session.stage_times is not None
        session.stage_times.seconds = []
        cuda.milliseconds = [1, 2, 3]
        session.run_device({"frames": DlpackArray(cuda, clips_of(1))}, ["ids"])
        session.run({"frames": clips_of(1)}, ["ids"])
        session.run_device({"frames": DlpackArray(cuda, clips_of(1))}, ["ids"])
        assert session.stage_times.seconds == [(0.001, 0.002, 0.003)]


def test_arrays_that_are_no_clips_on_this_gpu(cuda: Cuda, open_session: Open) -> None:
    with open_session() as session:

        def refused(array: object, match: str) -> None:
            with pytest.raises(InputError, match=match):
                session.run_device({"frames": array}, ["ids"])

        refused(clips_of(1), "isn't on the GPU of this session")
        refused(
            DlpackArray(cuda, clips_of(1).astype(np.float32)),
            "found float32.*expected frames uint8",
        )
        refused(DlpackArray(cuda, clips_of(1)[0]), r"expected frames uint8 \[N, T, H, W, 3\]")
        refused(DlpackArray(cuda, clips_of(2)[:0]), "none of them 0")
        strided = DlpackArray(cuda, clips_of(2))
        strided.array = strided.array[:, :, ::2]
        refused(strided, "'frames' isn't contiguous")
        good = DlpackArray(cuda, clips_of(1))
        with pytest.raises(BackendError, match="found clips, expected frames"):
            session.run_device({"clips": good}, ["ids"])
        with pytest.raises(BackendError, match="no output logits"):
            session.run_device({"frames": good}, ["logits"])
        # None of them has cost the session its worker.
        (ids,) = session.run_device({"frames": good}, ["ids"])
        np.testing.assert_array_equal(host_copy(cuda, ids), ids_of(session, clips_of(1)))


# Workers.


def test_threads_share_two_workers(cuda: Cuda, open_session: Open) -> None:
    batches = [clips_of(1 + seed % 2, seed) for seed in range(6)]
    with open_session(workers=2) as session, ThreadPoolExecutor(4) as threads:
        assert session.capabilities.workers == 2
        expected = [alone(session, clips) for clips in batches]
        on_device = [DlpackArray(cuda, clips) for clips in batches]

        def run(index: int) -> tuple[NDArray[Any], NDArray[Any]]:
            (ids,) = session.run_device({"frames": on_device[index]}, ["ids"])
            return ids_of(session, batches[index]), host_copy(cuda, ids)

        for wanted, found in zip(expected, threads.map(run, range(6)), strict=True):
            for ids in found:
                np.testing.assert_array_equal(ids, wanted)


def test_closing_frees_all_workers(cuda: Cuda, convs: NumpyConvs, open_session: Open) -> None:
    clips = DlpackArray(cuda, clips_of(1))
    others = set(cuda.blocks)
    session = open_session(workers=2)
    session.warm_up((1, *CLIP))
    session.run_device({"frames": clips}, ["ids"])
    session.close()
    session.close()
    gc.collect()
    assert set(cuda.blocks) == others
    assert not any(cuda.live.values())
    assert not convs.queues
    for call in (
        lambda: ids_of(session, clips_of(1)),
        lambda: session.run_device({"frames": clips_of(1)}, ["ids"]),
        lambda: session.warm_up((1, *CLIP)),
    ):
        with pytest.raises(BackendError, match="closed"):
            call()


def test_no_workers_are_refused_and_leak_nothing(cuda: Cuda, open_session: Open) -> None:
    with pytest.raises(InputError, match="`workers` must be positive: found 0"):
        open_session(workers=0)
    assert not cuda.blocks


# The tokenizer.


@pytest.fixture
def tokenizer_on_gpu(
    convs: NumpyConvs,  # noqa: ARG001 - opening takes them
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Tokenizer:
    """As a user opens it, on a machine whose GPU is the stand-in."""
    monkeypatch.setattr(backend, "why_no_cuda", lambda *_: "")
    return Tokenizer.open(tiny_bundle, backend="native-cuda", workers=2, batch_size=2)


def test_a_tokenizer_takes_and_gives_device_arrays(
    cuda: Cuda, convs: NumpyConvs, tokenizer_on_gpu: Tokenizer
) -> None:
    with tokenizer_on_gpu as tokenizer:
        assert tokenizer.capabilities.workers == 2
        expected = tokenizer(clips_of(3))
        assert {geometry.batch for geometry in convs.planned} == {2}
        for count in (2, 1):
            ids = tokenizer.encode_device(DlpackArray(cuda, clips_of(3)[:count]))
            np.testing.assert_array_equal(host_copy(cuda, ids), expected[:count])
        with pytest.raises(InputError, match=r"found 3 of them, expected at most `batch_size`, 2"):
            tokenizer.encode_device(DlpackArray(cuda, clips_of(3)))
        with pytest.raises(InputError, match=r"found shape \[1, 8, 8, 3\], expected uint8 \[batch"):
            tokenizer.encode_device(DlpackArray(cuda, clips_of(1)[0]))
        with pytest.raises(InputError, match="must be an array on the GPU: found list"):
            tokenizer.encode_device([1])
        with pytest.raises(InputError, match="isn't on the GPU of this session"):
            tokenizer.encode_device(clips_of(1))


def test_a_tokenizer_warms_up_its_batch_size_or_those_asked_for(
    convs: NumpyConvs, tokenizer_on_gpu: Tokenizer
) -> None:
    with tokenizer_on_gpu as tokenizer:
        tokenizer.warm_up(CLIP, batches=[1])
        assert {geometry.batch for geometry in convs.planned} == {1}
        tokenizer.warm_up(CLIP)
        assert {geometry.batch for geometry in convs.planned} == {1, 2}
        for batch in (0, 3):
            with pytest.raises(InputError, match=f"found {batch}, expected 1 to `batch_size`, 2"):
                tokenizer.warm_up(CLIP, batches=[batch])


# The detokenizer, and a codebook's tokenizer.


def test_a_detokenizer_takes_and_gives_device_arrays(
    cuda: Cuda,
    convs: NumpyConvs,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend, "why_no_cuda", lambda *_: "")
    ids = np.random.default_rng(0).integers(0, 2**18, (3, 1, 2, 3), np.int32)
    with Detokenizer.open(tiny_bundle, backend="native") as on_cpu:
        expected = on_cpu(ids)
    with Detokenizer.open(tiny_bundle, backend="native-cuda", batch_size=2) as detokenizer:
        detokenizer.warm_up((1, 2, 3))
        assert {geometry.batch for geometry in convs.planned} == {2}
        assert detokenizer.capabilities.device_arrays
        frames = detokenizer(ids)
        assert np.abs(frames.astype(int) - expected).max() <= 1
        on_device = detokenizer.decode_device(DlpackArray(cuda, ids[:2]))
        np.testing.assert_array_equal(host_copy(cuda, on_device), frames[:2])
        with pytest.raises(InputError, match="expected 0"):
            detokenizer(np.full((1, 1, 2, 3), 2**18, np.int32))


def test_a_tokenizer_of_a_codebook_gives_ids_margins_and_latents(
    cuda: Cuda,
    convs: NumpyConvs,
    tiny_ibq_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend, "why_no_cuda", lambda *_: "")
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
    options = {"precision": "fp32", "batch_size": 2}
    with Tokenizer.open(tiny_ibq_bundle, backend="native", **options) as on_cpu:
        expected, latents = on_cpu(images), on_cpu.latents(images)
    with Tokenizer.open(tiny_ibq_bundle, backend="native-cuda", **options) as tokenizer:
        np.testing.assert_array_equal(tokenizer(images), expected)
        np.testing.assert_allclose(tokenizer.latents(images), latents, atol=2e-4)
        on_device = tokenizer.encode_device(DlpackArray(cuda, images))
        np.testing.assert_array_equal(host_copy(cuda, on_device), expected)
    assert not convs.queues
