"""A bundle on a real tritonserver, called over HTTP and gRPC as clients do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime.triton_server import TritonServer, running, why_no_server

from magvit_export.bundle_writer import file_records
from magvit_runtime import Classifier, ClipClassifier, Detokenizer, Tokenizer
from magvit_runtime.cli.triton import triton

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_no_server() != "", reason=why_no_server()),
]

CLIP = (3, 16, 24, 3)
GRID = (3, 8, 12)
# Clips of which two requests don't fit one batch, and take the tiny model long enough to be seen.
LONG, LONG_CLIP = 6, (17, 96, 96, 3)
SMALL = {"frames": 3, "height": 16, "width": 24, "threads": 1}
# Long enough for requests of several threads to meet in one batch.
DELAY_US = 100_000
PATIENCE = 60
PROTOCOLS = ("http", "grpc")

Array = np.ndarray[Any, Any]


def clips(count: int, seed: int = 0, shape: tuple[int, ...] = CLIP) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def infer(
    server: TritonServer, protocol: str, model: str, name: str, items: Array
) -> Callable[[str], Array]:
    """A request of a client of its own; what it gives is asked for its outputs."""
    if protocol == "http":
        from tritonclient import http as client

        connection = client.InferenceServerClient(server.http, network_timeout=300)
    else:
        from tritonclient import grpc as client

        connection = client.InferenceServerClient(server.grpc)
    dtype = {"uint8": "UINT8", "int32": "INT32"}[items.dtype.name]
    given = client.InferInput(name, items.shape, dtype)
    given.set_data_from_numpy(items)
    try:
        return connection.infer(model, [given]).as_numpy
    finally:
        connection.close()


@pytest.fixture(scope="module")
def bundle(served_bundle: Path) -> Path:
    return served_bundle


@pytest.fixture(scope="module")
def folder(server_folder: Path) -> Path:
    return server_folder


@pytest.fixture(scope="module")
def server(
    bundle: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """One server for all tests that leave it as it is."""
    repository = tmp_path_factory.mktemp("repository") / "r"
    triton(bundle, output=repository, queue_delay_us=DELAY_US, **SMALL)
    with running(repository, folder) as up:
        yield up


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_32_clients_at_once_get_the_ids_of_their_clips(
    server: TritonServer, bundle: Path, protocol: str
) -> None:
    """Of several sizes, so that the requests of a batch are parted by size."""
    sizes = [(3, 16, 24, 3), (2, 32, 16, 3), (1, 16, 16, 3)]
    given = [clips(1 + seed % 3, seed, sizes[seed % len(sizes)]) for seed in range(32)]
    start = threading.Barrier(len(given))

    def ids(items: Array) -> Array:
        start.wait()
        return infer(server, protocol, "tokenizer", "clips", items)("ids")

    with ThreadPoolExecutor(len(given)) as clients:
        found = list(clients.map(ids, given))
    with Tokenizer.open(bundle) as tokenizer:
        for items, ids_of_items in zip(given, found, strict=True):
            np.testing.assert_array_equal(ids_of_items, tokenizer(items))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_model_gives_what_its_class_gives(
    server: TritonServer, bundle: Path, protocol: str
) -> None:
    frames = clips(3)
    ids = infer(server, protocol, "tokenizer", "clips", frames)("ids")
    classes = infer(server, protocol, "classifier", "ids", ids)
    of_clips = infer(server, protocol, "clip_classifier", "clips", frames)
    with Classifier.open(bundle) as classifier, ClipClassifier.open(bundle) as clip_classifier:
        expected, expected_of_clips = classifier(ids), clip_classifier(frames)
    np.testing.assert_array_equal(classes("probabilities"), expected.probabilities)
    assert tuple(label.decode() for label in classes("labels")[:, 0]) == expected.labels
    np.testing.assert_array_equal(of_clips("probabilities"), expected_of_clips.probabilities)
    with Detokenizer.open(bundle) as detokenizer:
        decoded = infer(server, protocol, "detokenizer", "ids", ids)("clips")
        np.testing.assert_array_equal(decoded, detokenizer(ids))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_wrong_request_fails_alone_in_our_words(
    server: TritonServer, bundle: Path, protocol: str
) -> None:
    from tritonclient.utils import InferenceServerException

    before = server.metrics()
    given = [np.random.default_rng(i).integers(0, 9, (1, *GRID), np.int32) for i in range(6)]
    given[2][0, 1, 2, 3] = -5
    start = threading.Barrier(len(given))

    def classes(items: Array) -> Array | InferenceServerException:
        start.wait()
        try:
            return infer(server, protocol, "classifier", "ids", items)("probabilities")
        except InferenceServerException as error:
            return error

    with ThreadPoolExecutor(len(given)) as clients:
        found = list(clients.map(classes, given))
    refused = found.pop(2)
    assert isinstance(refused, InferenceServerException)
    assert refused.status() == {"http": "400", "grpc": "StatusCode.INVALID_ARGUMENT"}[protocol]
    assert str(refused.message()).startswith("ids are out of range: found -5 at [0, 1, 2, 3]")
    with Classifier.open(bundle) as classifier:
        expected = [classifier(items).probabilities for items in given[:2] + given[3:]]
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=1e-6)
    after = server.metrics()
    labels = '{model="classifier",version="1"}'
    assert (
        after[f"magvit_clips_refused_total{labels}"]
        == before.get(f"magvit_clips_refused_total{labels}", 0) + 1
    )
    assert after[f"magvit_clips_total{labels}"] == before[f"magvit_clips_total{labels}"] + 5
    # They did meet: Triton ran fewer batches than requests.
    runs, requests = (
        after[f"nv_inference_{kind}{labels}"] - before[f"nv_inference_{kind}{labels}"]
        for kind in ("exec_count", "count")
    )
    assert runs < requests == 6


def test_health_and_metrics_answer(server: TritonServer) -> None:
    assert server.answers("v2/health/live")
    assert server.answers("v2/health/ready")
    for model in ("tokenizer", "classifier", "clip_classifier", "detokenizer"):
        assert server.answers(f"v2/models/{model}/ready")
    assert not server.answers("v2/models/features/ready")


def wait_for_pending(server: TritonServer, count: int) -> None:
    """Until that many requests to the tokenizer wait for an instance."""
    deadline = time.monotonic() + PATIENCE
    pending = 'nv_inference_pending_request_count{model="tokenizer",version="1"}'
    while server.metrics()[pending] < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


KILLED = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from tritonclient import {protocol} as client

shape = {shape}
given = client.InferInput("clips", shape, "UINT8")
given.set_data_from_numpy(np.zeros(shape, np.uint8))

def infer(_):
    client.InferenceServerClient(sys.argv[1]).infer("tokenizer", [given])

with ThreadPoolExecutor(3) as pool:
    list(pool.map(infer, range(3)))
print("has its answers", flush=True)
"""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_that_is_killed_harms_no_other(
    server: TritonServer, bundle: Path, protocol: str
) -> None:
    script = KILLED.format(protocol=protocol, shape=(LONG, *LONG_CLIP))
    with subprocess.Popen(
        [sys.executable, "-c", script, getattr(server, protocol)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        wait_for_pending(server, 2)
        process.kill()
        assert process.stdout.read() == ""
    given = clips(2, seed=9)
    found = infer(server, protocol, "tokenizer", "clips", given)("ids")
    with Tokenizer.open(bundle) as tokenizer:
        np.testing.assert_array_equal(found, tokenizer(given))
    assert server.answers("v2/health/ready")


def only_tokenizer(bundle: Path, repository: Path, **options: Any) -> tuple[str, ...]:
    """Writes a repository; the flags that make a server load one model of it."""
    triton(bundle, output=repository, **SMALL, **options)
    return "--model-control-mode", "explicit", "--load-model", "tokenizer"


def test_sigterm_lets_requests_under_way_be_answered(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    """Those of two instances, which count together, and those that wait for them."""
    flags = only_tokenizer(bundle, tmp_path / "repository", instances=2)
    flags += ("--exit-timeout-secs", "120")  # Others may be at work here.
    given = [clips(LONG, seed, LONG_CLIP) for seed in range(4)]
    counter = 'magvit_clips_total{model="tokenizer",version="1"}'
    with running(tmp_path / "repository", folder, *flags) as server, ThreadPoolExecutor(4) as pool:
        for seed in range(4):
            infer(server, "http", "tokenizer", "clips", clips(2, seed))
        assert server.metrics()[counter] == 8
        requests = [
            pool.submit(infer, server, protocol, "tokenizer", "clips", items)
            for protocol, items in zip(PROTOCOLS * 2, given, strict=True)
        ]
        wait_for_pending(server, 2)
        assert server.stop() == 0
        found = [request.result()("ids") for request in requests]
    with Tokenizer.open(bundle) as tokenizer:
        for items, ids in zip(given, found, strict=True):
            np.testing.assert_array_equal(ids, tokenizer(items))


def test_a_bundle_that_is_another_model_by_now_is_refused_at_load(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    """Its digests are right again, so only its canary tells."""
    other = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    manifest = json.loads((other / "bundle.json").read_text())
    for name in [name for name in manifest["files"] if name.startswith("encode.fp32.data")]:
        weights = np.fromfile(other / name, np.float32)
        weights[: len(weights) // 3] *= np.float32(1.1)
        weights.tofile(other / name)
        (record,) = file_records([other / name]).values()
        manifest["files"][name] = {"size": record.size, "sha256": record.sha256}
    (other / "bundle.json").write_text(json.dumps(manifest))
    flags = only_tokenizer(other, tmp_path / "repository")
    with (
        pytest.raises(RuntimeError, match=r"doesn't give what .* must give.*on the canary 'noise'"),
        running(tmp_path / "repository", folder, *flags),
    ):
        raise AssertionError("it is up")


def test_a_linked_bundle_is_served_without_metrics_too(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    flags = only_tokenizer(bundle, tmp_path / "repository", link=True)
    given = clips(1)
    with running(tmp_path / "repository", folder, *flags, "--allow-metrics", "false") as server:
        found = infer(server, "grpc", "tokenizer", "clips", given)("ids")
    with Tokenizer.open(bundle) as tokenizer:
        np.testing.assert_array_equal(found, tokenizer(given))
