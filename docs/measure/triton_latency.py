"""Measures what Triton adds to a request of one clip, beside the same call in this process.

python docs/measure/triton_latency.py                # the small preset, 300 clips by each way
python docs/measure/triton_latency.py --threads 1    # on one CPU thread, here and there
python docs/measure/triton_latency.py --smoke        # a tiny model: only shows that it works

The ways take turns, so that all meet the same state of the machine, and the overhead of a request
is its time less that of the call in this process in the same round. What gRPC itself takes is the
time of the same request to a model that the server doesn't have. perf_analyzer, NVIDIA's tool,
wants glibc 2.38; here a loop calls tritonclient. The server is that of the wheel nvidia-pytriton
(`make build/triton`).
"""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import getloadavg
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_runtime import Tokenizer
from magvit_runtime.cli.triton import triton
from magvit_runtime.clips.samples import verification_clips
from magvit_runtime.hardware.cpu import cpu_name

# Where the tests' server is.
sys.path.append(str(Path(__file__).parents[2] / "tests"))
SMALL = (2, 16, 16, 3)
WARM_UP = 10


def over_network(client: Any, address: str, clip: np.ndarray) -> Callable[[], np.ndarray]:
    """Requests by one of tritonclient's modules, each with the clip and the ids in it."""
    connection = client.InferenceServerClient(address)

    def call() -> np.ndarray:
        given = client.InferInput("clips", clip.shape, "UINT8")
        given.set_data_from_numpy(clip)
        return connection.infer("tokenizer", [given]).as_numpy("ids")

    return call


@contextmanager
def over_shared_memory(
    address: str, clip: np.ndarray, ids: np.ndarray
) -> Iterator[Callable[[], np.ndarray]]:
    """Requests by gRPC, whose clip and ids lie in memory that the server reads and writes."""
    from tritonclient import grpc
    from tritonclient.utils import shared_memory

    connection = grpc.InferenceServerClient(address)
    regions = {}
    for name, size in (("clips", clip.nbytes), ("ids", ids.nbytes)):
        key = f"/magvit_{name}"
        regions[name] = shared_memory.create_shared_memory_region(name, key, size)
        connection.register_system_shared_memory(name, key, size)

    def call() -> np.ndarray:
        shared_memory.set_shared_memory_region(regions["clips"], [clip])
        given = grpc.InferInput("clips", clip.shape, "UINT8")
        given.set_shared_memory("clips", clip.nbytes)
        wanted = grpc.InferRequestedOutput("ids")
        wanted.set_shared_memory("ids", ids.nbytes)
        connection.infer("tokenizer", [given], outputs=[wanted])
        return shared_memory.get_contents_as_numpy(regions["ids"], ids.dtype, ids.shape)

    yield call
    connection.unregister_system_shared_memory()
    for region in regions.values():
        shared_memory.destroy_shared_memory_region(region)


def measured(ways: dict[str, Callable[[], np.ndarray]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each way in each round; all must give the same ids."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    expected = next(iter(ways.values()))()
    names = list(ways)
    for number in range(WARM_UP + rounds):
        # No way always comes after the same other one.
        for name in np.roll(names, number):
            start = time.perf_counter()
            result = ways[name]()
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - start)
            np.testing.assert_array_equal(result, expected)
    return {name: np.array(values) for name, values in seconds.items()}


def refused_seconds(
    address: str, clip: np.ndarray, between: Callable[[], np.ndarray], rounds: int
) -> np.ndarray:
    """Seconds of requests by gRPC that are refused, each after a call of another kind."""
    from tritonclient import grpc
    from tritonclient.utils import InferenceServerException

    connection = grpc.InferenceServerClient(address)
    given = grpc.InferInput("clips", clip.shape, "UINT8")
    seconds = []
    for _ in range(rounds):
        between()
        start = time.perf_counter()
        given.set_data_from_numpy(clip)
        try:
            connection.infer("nobody", [given])
        except InferenceServerException:
            seconds.append(time.perf_counter() - start)
    return np.array(seconds)


def figures(milliseconds: np.ndarray) -> str:
    median, late = np.median(milliseconds), np.quantile(milliseconds, 0.99)
    return f"median {median:7.2f} p99 {late:7.2f}"


def main() -> None:
    from runtime.triton_server import running, why_no_server
    from smoke import SMOKE_HELP, tiny_bundle
    from tritonclient import grpc, http

    if why := why_no_server():
        sys.exit(why)
    parser = ArgumentParser()
    parser.add_argument("--smoke", action="store_true", help=SMOKE_HELP)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder, rounds = Path(name), options.rounds
        if options.smoke:
            bundle, shape, rounds = tiny_bundle(folder), SMALL, 2
        else:
            bundle, shape = folder / "bundle", (17, 128, 128, 3)
            export_model(find_model("trajectory-small"), bundle, weights="seeded", roles=["encode"])
        sizes = dict(zip(("frames", "height", "width"), shape, strict=False))
        triton(bundle, output=folder / "repository", threads=options.threads, **sizes)
        only = ("--model-control-mode", "explicit", "--load-model", "tokenizer")
        clip = verification_clips(shape)[:1]
        load = getloadavg()[0]
        with (
            Tokenizer.open(bundle, threads=options.threads, device="cpu") as tokenizer,
            running(folder / "repository", folder / "server", *only) as server,
            over_shared_memory(server.grpc, clip, tokenizer(clip)) as shared,
        ):
            ways = {
                "in process": lambda: tokenizer(clip),
                "gRPC": over_network(grpc, server.grpc, clip),
                "gRPC, shared memory": shared,
                "HTTP": over_network(http, server.http, clip),
            }
            seconds = measured(ways, rounds)
            refused = refused_seconds(server.grpc, clip, ways["in process"], rounds)
            facts = tokenizer.capabilities
    print(f"{cpu_name()}; {facts.backend}, {facts.threads} threads; load before {load:.2f}")
    print(f"a clip {list(shape)}, {rounds} rounds; ms")
    base = seconds["in process"]
    for name, values in seconds.items():
        more = 1e3 * (values - base)
        print(f"{name:20} {figures(1e3 * values)}   overhead {figures(more)}")
    print(f"{'gRPC, refused':20} {figures(1e3 * refused)}")


if __name__ == "__main__":
    main()
