"""Engines of several profiles, engines that take weights, and several GPUs, on the stand-in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_profiles import profile_of
from runtime import stand_in_gpu
from runtime.stand_in_arrays import DlpackArray, host_copy
from runtime.stand_in_engines import CLIP, clips_of, ids_of, write_engine
from runtime.stand_in_gpu import Cuda, TensorRt

from magvit_runtime import open_bundle
from magvit_runtime.backends.trt.engines import Engine
from magvit_runtime.backends.trt.refitting import refitted_plan
from magvit_runtime.backends.trt.session import TensorRtSession
from magvit_runtime.bundle.engine_records import Profile
from magvit_runtime.bundle.onnx_weights import read_weights
from magvit_runtime.errors import BackendError, InputError

Gpu = tuple[Cuda, TensorRt, TensorRt]
LONGER = (4, *CLIP[1:])
THREE = (profile_of(1, 1, 1, CLIP), profile_of(2, 4, 4, CLIP), profile_of(5, 8, 16, CLIP))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return stand_in_gpu.install(monkeypatch)


def open_session(engine: Engine, **options: Any) -> TensorRtSession:
    return TensorRtSession(engine, precision="fp16", reason="asked for", **options)


def profiles_used(trt: TensorRt) -> list[int]:
    """Of the contexts that ran, in the order in which they were made."""
    return [context.profile for context in trt.contexts if context.enqueued]


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
def test_each_run_takes_the_tightest_profile(tmp_path: Path, gpu: Gpu, flavour: Any) -> None:
    trt = gpu[2 if flavour == "tensorrt-rtx" else 1]
    with open_session(write_engine(tmp_path, flavour, profiles=THREE)) as session:
        for count in (3, 1, 16, 4, 5):
            clips = clips_of(count, seed=count)
            np.testing.assert_array_equal(session.run({"frames": clips}, ["ids"])[0], ids_of(clips))
        # One context for the largest batch of each profile, then those of batches 3 and 5.
        assert profiles_used(trt) == [0, 1, 2, 1, 2]
        with pytest.raises(InputError, match=r"fit no profile.*at most 16"):
            session.run({"frames": clips_of(17)}, ["ids"])


def test_device_runs_have_a_context_for_each_profile(tmp_path: Path, gpu: Gpu) -> None:
    cuda, trt, _ = gpu
    with open_session(write_engine(tmp_path, profiles=THREE)) as session:
        for count in (1, 7, 8, 1):
            clips = clips_of(count, seed=count)
            (ids,) = session.run_device({"frames": DlpackArray(cuda, clips)}, ["ids"])
            np.testing.assert_array_equal(host_copy(cuda, ids), ids_of(clips))
        assert profiles_used(trt) == [0, 2]


def test_memory_holds_the_largest_shapes_of_all_profiles(tmp_path: Path, gpu: Gpu) -> None:
    """The profile with the most clips isn't that with the largest ones."""
    profiles: tuple[Profile, ...] = (profile_of(1, 1, 2, CLIP), profile_of(1, 2, 3, LONGER))
    clips = np.random.default_rng(0).integers(0, 256, (3, *LONGER), np.uint8)
    with open_session(write_engine(tmp_path, profiles=profiles)) as session:
        before = gpu[0].allocations
        for frames in (clips, clips_of(2)):
            (ids,) = session.run({"frames": frames}, ["ids"])
            np.testing.assert_array_equal(ids, ids_of(frames))
        assert gpu[0].allocations == before


# Engines that take weights.


@pytest.fixture
def graph(tiny_bundle: Path, tmp_path: Path) -> Path:
    """An ONNX file with its weights."""
    bundle = open_bundle(shutil.copytree(tiny_bundle, tmp_path / "model"))
    return bundle.verified_graph(bundle.graphs("encode")["fp32"])


def weights_of(graph: Path, stripped: bool) -> dict[str, list[Any]]:
    """As the stand-in's plans have them: some of a graph's, by the names that it gives them."""
    found = {name: array for name, array in read_weights(graph).items() if "conv" in name}
    assert len(found) > 10
    return {
        name: [array.dtype.name, array.size, None if stripped else 0.0]
        for name, array in found.items()
    }


def total_of(graph: Path) -> int:
    arrays = [array for name, array in read_weights(graph).items() if "conv" in name]
    return round(sum(float(array.sum(dtype=np.float64)) for array in arrays))


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.usefixtures("gpu")
def test_a_plan_without_weights_takes_the_graphs(tmp_path: Path, graph: Path, flavour: Any) -> None:
    stripped = weights_of(graph, stripped=True)
    engine = write_engine(tmp_path, flavour, weights=stripped, strip_weights=True)
    assert total_of(graph) != 0
    with open_session(engine, graph=graph) as session:
        (ids,) = session.run({"frames": clips_of(2)}, ["ids"])
    np.testing.assert_array_equal(ids, ids_of(clips_of(2)) + total_of(graph))


@pytest.mark.usefixtures("gpu")
def test_weights_that_the_graph_lacks_are_named(tmp_path: Path, graph: Path) -> None:
    weights = weights_of(graph, stripped=True)
    weights |= {f"of another model {n}": ["float32", 1, None] for n in range(7)}
    engine = write_engine(tmp_path, weights=weights, strip_weights=True)
    with pytest.raises(BackendError, match=r"of another model 0.*of another model 4 and 2 more"):
        open_session(engine, graph=graph)


@pytest.mark.parametrize(
    ("dtype", "more", "message"),
    [("float16", 0, r"float32 \[\d+\], not float16"), ("float32", 1, r"float32 \[\d+\], not")],
)
@pytest.mark.usefixtures("gpu")
def test_weights_of_another_type_or_size_are_named(
    tmp_path: Path, graph: Path, dtype: str, more: int, message: str
) -> None:
    weights = weights_of(graph, stripped=True)
    name = next(iter(weights))
    weights[name] = [dtype, weights[name][1] + more, None]
    engine = write_engine(tmp_path, weights=weights, strip_weights=True)
    with pytest.raises(BackendError, match=f"{name} {message}"):
        open_session(engine, graph=graph)


@pytest.mark.usefixtures("gpu")
def test_a_plan_without_weights_needs_its_bundle(tmp_path: Path, graph: Path) -> None:
    engine = write_engine(tmp_path, weights=weights_of(graph, stripped=True), strip_weights=True)
    with pytest.raises(BackendError, match=r"has no weights in it.*open it with its bundle"):
        open_session(engine)


def test_tensorrts_refusal_to_refit_is_told(tmp_path: Path, gpu: Gpu, graph: Path) -> None:
    engine = write_engine(tmp_path, weights=weights_of(graph, stripped=True), strip_weights=True)
    gpu[1].fails = "no memory"
    with pytest.raises(BackendError, match=r"can't refit .*: found no memory"):
        open_session(engine, graph=graph)


@pytest.mark.usefixtures("gpu")
def test_an_engine_that_was_refitted_can_be_again(tmp_path: Path, graph: Path) -> None:
    engine = write_engine(tmp_path, weights=weights_of(graph, stripped=False), refit=True)
    content = refitted_plan(engine, graph)
    again = write_engine(tmp_path, content=content, refit=True)
    with open_session(again) as session:
        (ids,) = session.run({"frames": clips_of(1)}, ["ids"])
    np.testing.assert_array_equal(ids, ids_of(clips_of(1)) + total_of(graph))
    assert refitted_plan(again, graph) == content


@pytest.mark.usefixtures("gpu")
def test_an_engine_that_takes_no_weights_says_so(tmp_path: Path, graph: Path) -> None:
    with pytest.raises(BackendError, match=r"takes no weights.*--refit"):
        refitted_plan(write_engine(tmp_path, refit=True), graph)


# Another GPU than CUDA's first.


def test_a_session_stays_on_its_gpu(
    tmp_path: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = gpu[0]
    current = [0]
    monkeypatch.setattr(cuda, "cudaGetDeviceCount", lambda: (stand_in_gpu.OK, 2))
    monkeypatch.setattr(cuda, "cudaGetDevice", lambda: (stand_in_gpu.OK, current[0]))

    def set_device(ordinal: int) -> tuple[Any]:
        current[0] = ordinal
        return (stand_in_gpu.OK,)

    monkeypatch.setattr(cuda, "cudaSetDevice", set_device)
    array, elsewhere = (DlpackArray(cuda, clips_of(2)) for _ in range(2))
    array.device = (2, 1)
    allocate, places = cuda.allocate, set()

    def allocate_there(size: int) -> Any:
        places.add(current[0])
        return allocate(size)

    monkeypatch.setattr(cuda, "allocate", allocate_there)
    with open_session(write_engine(tmp_path), gpu=1) as session:
        (ids,) = session.run({"frames": clips_of(2)}, ["ids"])
        np.testing.assert_array_equal(ids, ids_of(clips_of(2)))
        (on_gpu,) = session.run_device({"frames": array}, ["ids"])
        assert on_gpu.__dlpack_device__() == (2, 1)
        with pytest.raises(InputError, match=r"DLPack device \(2, 0\), expected \(2, 1\)"):
            session.run_device({"frames": elsewhere}, ["ids"])
    assert places == {1}
    assert current == [0]
    with pytest.raises(BackendError, match="found 2 that CUDA can use"):
        open_session(write_engine(tmp_path), gpu=2)
