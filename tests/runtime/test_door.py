"""Doors in a process with others: forked, pickled, dropped, and called by many threads."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from magvit_runtime import BackendError, BundleError, Classifier, Tokenizer, open_bundle
from magvit_runtime.backends.native.cpu.convs import CpuConv
from magvit_runtime.backends.opening import open_role
from magvit_runtime.door import Door
from magvit_runtime.files.digests import file_sha256

BACKENDS = ("native", "onnxruntime")
# Seconds after which a process counts as one that hangs.
PATIENCE = 120
# Of a protobuf message, an ONNX model's documentation, which is then empty.
EMPTY_FIELD = b"\x32\x00"

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def clips(count: int = 1, frames: int = 3) -> NDArray[np.uint8]:
    shape = (count, frames, 16, 24, 3)
    return np.random.default_rng(frames).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def trained_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a classifier of the grids of `clips()`."""
    from magvit_export.training.classifier_training import train_classifier
    from magvit_export.training.options import TrainingOptions
    from magvit_runtime.results.token_files import TokenTable, token_file_info

    path = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("trained") / "bundle"))
    tokens = np.random.default_rng(0).integers(2**18, size=(12, 3, 8, 12), dtype=np.int32)
    info = token_file_info(open_bundle(path), (3, 8, 12))
    table = TokenTable(info, tuple(map(str, range(12))), ("circle", "line") * 6, tokens)
    train_classifier(path, table, TrainingOptions(holdout=0, epochs=1))
    return path


def in_a_fork(work: Callable[[], str]) -> str:
    """What work gives in a forked process; it must come to an end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    deadline = time.monotonic() + PATIENCE
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reader)
            return "it hangs"
        time.sleep(0.01)
    with os.fdopen(reader, "rb") as file:
        return file.read().decode()


@contextmanager
def encoding_all_the_time(tokenizer: Tokenizer) -> Iterator[None]:
    """Another thread encodes meanwhile."""
    over = threading.Event()
    begun = threading.Event()

    def encode() -> None:
        while not over.is_set():
            tokenizer(clips(2, 9))
            begun.set()

    thread = threading.Thread(target=encode)
    thread.start()
    begun.wait(PATIENCE)
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forked_process_encodes_while_its_parent_does(tiny_bundle: Path, backend: str) -> None:
    batch = clips()
    with Tokenizer.open(tiny_bundle, backend=backend, threads=2) as tokenizer:
        expected = tokenizer(batch)

        def encode() -> str:
            with ThreadPoolExecutor(3) as pool:
                found = list(pool.map(tokenizer, [batch] * 6))
            tokenizer.close()
            return str(all((ids == expected).all() for ids in found))

        with encoding_all_the_time(tokenizer):
            assert [in_a_fork(encode) for _ in range(3)] == ["True"] * 3
        np.testing.assert_array_equal(tokenizer(batch), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forked_process_may_drop_what_its_parent_opened(tiny_bundle: Path, backend: str) -> None:
    doors = [Tokenizer.open(tiny_bundle, backend=backend, threads=3)]
    doors[0](clips())

    def drop() -> str:
        doors.clear()
        gc.collect()
        return "dropped"

    assert in_a_fork(drop) == "dropped"
    doors[0](clips())


def test_a_grandchild_encodes_too(tiny_bundle: Path) -> None:
    with Tokenizer.open(tiny_bundle, backend="native") as tokenizer:
        expected = tokenizer(clips())

        def encode() -> str:
            return str((tokenizer(clips()) == expected).all())

        assert in_a_fork(lambda: encode() + in_a_fork(encode)) == "TrueTrue"


def test_a_classifier_works_in_a_forked_process(trained_bundle: Path) -> None:
    ids = np.zeros((1, 3, 8, 12), np.int32)
    with Classifier.open(trained_bundle) as classifier:
        expected = classifier(ids).labels
        assert in_a_fork(lambda: str(classifier(ids).labels)) == str(expected)


def test_a_door_that_was_closed_before_the_fork_stays_closed(tiny_bundle: Path) -> None:
    tokenizer = Tokenizer.open(tiny_bundle, backend="native")
    tokenizer.close()
    assert in_a_fork(lambda: str(tokenizer(clips()))) == "BackendError: this session is closed"


def test_a_door_that_no_path_was_given_for_says_so_in_a_forked_process(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    graph, session = open_role(bundle, "encode", backend="native")
    with Tokenizer(bundle, graph, session, batch_size=1) as tokenizer:
        said = in_a_fork(lambda: str(tokenizer(clips())))
        with pytest.raises(TypeError, match="a Tokenizer can't be copied or pickled"):
            pickle.dumps(tokenizer)
    assert said.startswith("BackendError: this session on CPU")
    assert "opened before the process forked. Fix: open the bundle in each process" in said


def test_a_session_on_a_gpu_says_so_in_a_forked_process(tiny_bundle: Path) -> None:
    tokenizer = Tokenizer.open(tiny_bundle, backend="onnxruntime")
    # As its session would say where ONNX Runtime has a GPU.
    session = tokenizer._session
    session.capabilities = replace(session.capabilities, device="CUDA")
    said = in_a_fork(lambda: str(tokenizer(clips())))
    assert said.startswith(
        "BackendError: this session on CUDA was opened before the process forked"
    )


def test_a_forked_process_ends_normally(tiny_bundle: Path) -> None:
    """As servers do that fork: without `os._exit`, so that all destructors run."""
    code = """
import os, sys
import numpy as np
from magvit_runtime import Tokenizer
tokenizer = Tokenizer.open(sys.argv[1], backend="native", threads=3)
tokenizer(np.zeros((1, 3, 16, 16, 3), np.uint8))
child = os.fork()
print(tokenizer(np.zeros((1, 3, 16, 16, 3), np.uint8)).shape, flush=True)
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, tiny_bundle],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout.splitlines() == ["(1, 3, 8, 8)"] * 2


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
def test_a_pickled_tokenizer_is_opened_again(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    with Tokenizer.open("bundle", backend=backend, threads=1, batch_size=3) as tokenizer:
        content = pickle.dumps(tokenizer)
        expected = tokenizer(clips(4))
    # The path is absolute: another process may be anywhere.
    monkeypatch.chdir("/")
    with pickle.loads(content) as again:
        assert replace(again.capabilities, reason="") == replace(tokenizer.capabilities, reason="")
        np.testing.assert_array_equal(again(clips(4)), expected)
        again.warm_up((3, 16, 24, 3), batches=[3])
    with copy.deepcopy(tokenizer) as copied:
        np.testing.assert_array_equal(copied(clips(4)), expected)


def test_a_pickled_classifier_is_opened_again(trained_bundle: Path) -> None:
    ids = np.zeros((2, 3, 8, 12), np.int32)
    with (
        Classifier.open(trained_bundle, threads=1) as classifier,
        pickle.loads(pickle.dumps(classifier)) as again,
    ):
        assert again.classes == classifier.classes
        np.testing.assert_array_equal(again(ids).probabilities, classifier(ids).probabilities)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_of_a_pool_take_a_tokenizer(tiny_bundle: Path, method: str) -> None:
    batches = [clips(1, frames) for frames in (1, 2, 3)]
    with Tokenizer.open(tiny_bundle, backend="native", threads=1) as tokenizer:
        with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
            found = list(pool.map(tokenizer, batches, timeout=PATIENCE))
        for ids, batch in zip(found, batches, strict=True):
            np.testing.assert_array_equal(ids, tokenizer(batch))


def test_a_bundle_that_has_gone_or_changed_since(tiny_bundle: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    with Tokenizer.open(path, backend="native") as tokenizer:
        content = pickle.dumps(tokenizer)
        # The same model, exported anew: sound, but of another graph.
        graph = path / "encode.fp32.onnx"
        graph.write_bytes(graph.read_bytes() + EMPTY_FIELD)
        manifest = msgspec.json.decode((path / "bundle.json").read_bytes())
        record = {"size": graph.stat().st_size, "sha256": file_sha256(graph)}
        manifest["files"][graph.name] = record
        (path / "bundle.json").write_bytes(msgspec.json.encode(manifest))
        with pytest.raises(BundleError, match="has changed since it was opened in another process"):
            pickle.loads(content)
        assert "has changed since" in in_a_fork(lambda: str(tokenizer(clips())))
        shutil.rmtree(path)
        with pytest.raises(BundleError, match=f"{path}"):
            pickle.loads(content)
        assert in_a_fork(lambda: str(tokenizer(clips()))).startswith("BundleError: ")


@pytest.mark.parametrize("backend", BACKENDS)
def test_doors_that_are_dropped_give_back_threads_and_memory(
    tiny_bundle: Path, backend: str
) -> None:
    process = psutil.Process()

    def open_and_drop(times: int) -> tuple[int, int]:
        for _ in range(times):
            Tokenizer.open(tiny_bundle, backend=backend, threads=4)(clips(1, 9))
        gc.collect()
        return process.num_threads(), process.memory_info().rss

    threads, memory = open_and_drop(3)
    threads_after, memory_after = open_and_drop(9)
    assert threads_after <= threads
    assert memory_after - memory < 8 * 2**20


def test_a_dropped_door_is_freed_without_the_collector(tiny_bundle: Path) -> None:
    gc.disable()
    try:
        tokenizer: Door | None = Tokenizer.open(tiny_bundle, backend="native")
        assert tokenizer is not None
        session = weakref.ref(tokenizer._session)
        tokenizer = None
        assert session() is None
    finally:
        gc.enable()


def test_an_opening_that_fails_gives_back_its_threads(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = psutil.Process().num_threads()
    made = []
    create = CpuConv.__init__

    def fail_at_the_third(conv: CpuConv, *arguments: object) -> None:
        made.append(1)
        if len(made) == 3:
            raise BackendError("this conv can't be laid out")
        create(conv, *arguments)

    monkeypatch.setattr(CpuConv, "__init__", fail_at_the_third)
    with pytest.raises(BackendError, match="this conv can't be laid out"):
        Tokenizer.open(tiny_bundle, backend="native", threads=5)
    gc.collect()
    assert psutil.Process().num_threads() == threads
