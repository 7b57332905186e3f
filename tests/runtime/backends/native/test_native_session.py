"""The native session: golden values, threads, memory, and what it refuses."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np
import onnxruntime
import psutil
import pytest
from runtime.backends.native.graphs import FRAMES, plain_encoder
from seeded_checkpoints import TINY

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_runtime import BackendError, Tokenizer
from magvit_runtime.backends.native.cpu.session import CpuSession


@pytest.fixture(scope="module")
def latents() -> str:
    """Name of the output."""
    return plain_encoder()[1]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    encoder, latents = plain_encoder()
    return encoder.save(latents, tmp_path_factory.mktemp("native") / "encoder.onnx")


@pytest.fixture
def session(graph: Path) -> Iterator[CpuSession]:
    with CpuSession(graph, precision="fp32", threads=2, reason="in a test") as session:
        yield session


def clips(count: int = 1, frames: int = 5) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, frames, 20, 28, 3), np.uint8)


def test_it_says_what_it_runs_on(session: CpuSession) -> None:
    found = session.capabilities
    assert (found.backend, found.precision, found.threads) == ("native", "fp32", 2)
    assert found.device in ("CPU, avx512", "CPU, avx2", "CPU, portable")
    assert found.reason == "in a test"
    assert not found.device_arrays
    assert session.stage_times is None


def test_results_dont_depend_on_the_number_of_threads(graph: Path) -> None:
    frames = clips()
    results = []
    for threads in (1, 2, 3, 8):
        with CpuSession(graph, precision="fp32", threads=threads, reason="") as session:
            results.append(session.run({FRAMES: frames}, ["ids"])[0])
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_a_run_repeats_bit_for_bit(session: CpuSession, latents: str) -> None:
    frames = clips(2)
    first, second = (session.run({FRAMES: frames}, ["ids", latents]) for _ in "ab")
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_many_threads_may_call_it(session: CpuSession) -> None:
    batches = [clips(count, frames) for count in (1, 2) for frames in (1, 3, 5)]
    expected = [session.run({FRAMES: batch}, ["ids"])[0] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda batch: session.run({FRAMES: batch}, ["ids"])[0], batches * 5)
        for result, wanted in zip(found, expected * 5, strict=True):
            np.testing.assert_array_equal(result, wanted)


def test_results_are_the_callers_own(session: CpuSession) -> None:
    frames = clips()
    (first,) = session.run({FRAMES: frames}, ["ids"])
    kept = first.copy()
    session.run({FRAMES: 255 - frames}, ["ids"])
    np.testing.assert_array_equal(first, kept)


def test_memory_stays_where_it_is(session: CpuSession) -> None:
    """One size after another, many times: all allocated memory is used again."""
    batches = [clips(1, frames) for frames in (1, 4, 5)]
    process = psutil.Process()

    def run_all(times: int) -> int:
        for batch in batches * times:
            session.run({FRAMES: batch}, ["ids"])
        return process.memory_info().rss

    before = run_all(30)
    # A map that was lost in each run would be 300 MB.
    assert run_all(300) - before < 2**24


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((1, 5, 20, 28, 3), np.float32),
        np.zeros((5, 20, 28, 3), np.uint8),
        np.zeros((0, 5, 20, 28, 3), np.uint8),
        np.zeros((1, 5, 20, 28, 4), np.uint8),
    ],
    ids=["float", "one clip", "no clip", "four channels"],
)
def test_other_frames_are_refused(session: CpuSession, frames: np.ndarray) -> None:
    with pytest.raises(BackendError, match="the native backend can't run these inputs: found"):
        session.run({FRAMES: frames}, ["ids"])


def test_other_names_are_refused(session: CpuSession) -> None:
    with pytest.raises(BackendError, match="expected frames uint8"):
        session.run({"clips": clips()}, ["ids"])
    with pytest.raises(BackendError, match="the graph has no output logits"):
        session.run({FRAMES: clips()}, ["ids", "logits"])


def test_arrays_of_any_layout(session: CpuSession) -> None:
    frames = clips(2)
    (expected,) = session.run({FRAMES: frames}, ["ids"])
    turned = np.asfortranarray(frames)
    spread = np.zeros((2, 5, 40, 28, 3), np.uint8)[:, :, ::2]
    spread[:] = frames
    frames.setflags(write=False)
    for layout in (turned, spread, frames):
        np.testing.assert_array_equal(session.run({FRAMES: layout}, ["ids"])[0], expected)


def test_a_closed_session_says_so(graph: Path) -> None:
    session = CpuSession(graph, precision="fp32", threads=1, reason="")
    session.close()
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run({FRAMES: clips()}, ["ids"])


def test_a_graph_without_ids_gives_its_maps(tmp_path: Path) -> None:
    encoder, latents = plain_encoder()
    model = encoder.model(latents)
    del model.graph.node[-1]
    del model.graph.output[0]
    path = tmp_path / "encoder.onnx"
    path.write_bytes(model.SerializeToString())
    (expected,) = onnxruntime.InferenceSession(path).run([latents], {FRAMES: clips()})
    with CpuSession(path, precision="fp32", threads=1, reason="") as session:
        (found,) = session.run({FRAMES: clips()}, [latents])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_it_cant_be_pickled_and_says_so(session: CpuSession) -> None:
    with pytest.raises(TypeError, match=r"a CpuSession can't be .*pickled.* each process"):
        pickle.dumps(session)


def test_a_forked_process_is_refused_instead_of_waiting_for_ever(session: CpuSession) -> None:
    frames = clips()
    (before,) = session.run({FRAMES: frames}, ["ids"])

    def use(errors: SimpleQueue[str]) -> None:
        try:
            session.run({FRAMES: frames}, ["ids"])
        except BackendError as error:
            errors.put(str(error))
        session.close()

    forking = get_context("fork")
    errors = forking.SimpleQueue()
    child = forking.Process(target=use, args=(errors,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert "opened before the process forked" in errors.get()
    np.testing.assert_array_equal(session.run({FRAMES: frames}, ["ids"])[0], before)


def test_half_precision_is_refused_on_a_cpu(tmp_path: Path) -> None:
    entry = find_model("trajectory-small")
    export_model(entry, tmp_path, weights="seeded", roles=["encode"], config=TINY, precision="fp16")
    with pytest.raises(BackendError) as error:
        Tokenizer.open(tmp_path, backend="native")
    assert str(error.value) == (
        f"native can't run the fp16 graph of {tmp_path} here: found the native backend computes in "
        "float32 on a CPU. Fix: use another precision or backend"
    )
    with Tokenizer.open(tmp_path) as tokenizer:
        assert tokenizer.capabilities.backend == "onnxruntime"
        assert "the native backend computes in float32" in tokenizer.capabilities.reason
