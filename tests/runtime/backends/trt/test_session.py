"""TensorRT sessions on stand-ins for GPU and TensorRT; `stand_in_gpu` says what it stands in for.

`test_on_gpu.py` has the tests on a real one.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from known_profiles import profile_of
from runtime import stand_in_gpu
from runtime.collected_spans import collect_spans
from runtime.stand_in_arrays import DlpackArray
from runtime.stand_in_engines import CLIP, PROFILE, clips_of, ids_of, plan_of, write_engine
from runtime.stand_in_gpu import Cuda, TensorRt

from magvit_runtime.backends.backend import Opening
from magvit_runtime.backends.trt.backend import open_engine
from magvit_runtime.backends.trt.contexts import runtime_cache_file
from magvit_runtime.backends.trt.engines import Engine
from magvit_runtime.backends.trt.session import TensorRtSession
from magvit_runtime.backends.trt.tensors import EngineTensors
from magvit_runtime.backends.trt.worker import SHAPES_KEPT
from magvit_runtime.cuda.arrays import view_device_array
from magvit_runtime.cuda.device import open_device
from magvit_runtime.cuda.memory import tensor_bytes
from magvit_runtime.errors import BackendError, BundleError, InputError
from magvit_runtime.hardware.gpus import list_gpus
from magvit_runtime.types import Flavour

Gpu = tuple[Cuda, TensorRt, TensorRt]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return stand_in_gpu.install(monkeypatch)


def open_session(engine: Engine, workers: int = 1) -> TensorRtSession:
    return TensorRtSession(engine, precision="fp16", workers=workers, reason="asked for")


# Refused before TensorRT sees it.


def test_missing_plan(tmp_path: Path) -> None:
    engine = write_engine(tmp_path)
    engine.plan.unlink()
    with pytest.raises(BundleError, match=r"engine.plan is missing. .*magvit build"):
        open_session(engine)


def test_damaged_plan(tmp_path: Path, gpu: Gpu) -> None:
    engine = write_engine(tmp_path)
    engine.plan.write_bytes(b"x" + engine.plan.read_bytes()[1:])
    with pytest.raises(BundleError, match=r"engine.plan is damaged.*magvit build"):
        open_session(engine)
    assert not hasattr(gpu[1], "logger")


@pytest.mark.usefixtures("gpu")
def test_workers_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`workers`"):
        open_session(write_engine(tmp_path), workers=0)


@pytest.mark.skipif(bool(list_gpus()), reason="this machine has a GPU")
@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
def test_without_a_gpu_it_says_so_in_a_sentence(tmp_path: Path, flavour: Flavour) -> None:
    module = flavour.replace("-", "_")
    for needed in (module, "cuda"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: pip install tensorrt-rtx-cu13 cuda-bindings")
    pytest.importorskip("cuda.bindings", reason="pip install cuda-bindings")
    engine = write_engine(tmp_path, flavour)
    script = """
import sys, msgspec
from pathlib import Path
from magvit_runtime.bundle.engine_records import EngineRecord
from magvit_runtime.backends.trt.engines import Engine
from magvit_runtime.errors import BackendError
from magvit_runtime.backends.trt.session import TensorRtSession
record = msgspec.json.decode(sys.argv[2], type=EngineRecord)
try:
    TensorRtSession(Engine(Path(sys.argv[1]), record), precision="fp16", reason="")
except BackendError as error:
    print(error)
"""
    record = msgspec.json.encode(engine.record).decode()
    run = subprocess.run(
        [sys.executable, "-c", script, str(engine.plan), record],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(
        "a GPU session needs an NVIDIA GPU and its driver: found no NVIDIA driver. Fix:"
    )
    assert "onnxruntime" in run.stdout
    assert run.stderr == ""


def test_old_driver_is_named(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    status = stand_in_gpu.CudaError.cudaErrorInsufficientDriver
    monkeypatch.setattr(gpu[0], "cudaGetDeviceCount", lambda: (status, 0))
    monkeypatch.setattr(gpu[0], "cudaDriverGetVersion", lambda: (stand_in_gpu.OK, 12040))
    with pytest.raises(BackendError, match=r"CUDA 12.4, expected CUDA 13.*cuda-bindings==12"):
        open_device()


def test_importing_the_runtime_imports_no_gpu_library() -> None:
    script = """
import sys, magvit_runtime, magvit_runtime.backends.trt.session
print([n for n in sys.modules if n.split(".")[0] in ("tensorrt", "tensorrt_rtx", "cuda", "torch")])
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# Which arrays fit.


def tensors() -> EngineTensors:
    return EngineTensors({"frames": np.dtype(np.uint8)}, {"ids": np.dtype(np.int32)}, (PROFILE,))


@pytest.mark.parametrize("shape", [(1, *CLIP), (16, *CLIP)])
def test_arrays_within_the_profile_fit(shape: tuple[int, ...]) -> None:
    tensors().check({"frames": shape}, {"frames": np.dtype(np.uint8)}, ["ids"])


@pytest.mark.parametrize("shape", [(0, *CLIP), (17, *CLIP), CLIP, (1, 2, 3, 5, 3), (1, *CLIP, 1)])
def test_arrays_outside_the_profile_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"frames uint8 \[1 to 16, 2, 3, 4, 3\].*batch_size"):
        tensors().check({"frames": shape}, {"frames": np.dtype(np.uint8)}, ["ids"])


def test_wrong_type_and_names_are_refused() -> None:
    shapes, dtypes = {"frames": (1, *CLIP)}, {"frames": np.dtype(np.float32)}
    with pytest.raises(InputError, match="found float32"):
        tensors().check(shapes, dtypes, ["ids"])
    with pytest.raises(InputError, match="found clips, expected frames"):
        tensors().check({"clips": (1, *CLIP)}, dtypes, ["ids"])
    with pytest.raises(InputError, match="no such output: found labels, expected ids"):
        tensors().check(shapes, {"frames": np.dtype(np.uint8)}, ["labels"])


@pytest.mark.parametrize(
    ("profiles", "count", "chosen"),
    [
        ([(1, 1, 1), (2, 4, 4), (5, 8, 16)], 1, 0),
        ([(1, 1, 1), (2, 4, 4), (5, 8, 16)], 3, 1),
        ([(1, 1, 1), (2, 4, 4), (5, 8, 16)], 5, 2),
        # Several hold it: the smallest, and of those the one with the nearest optimum.
        ([(1, 8, 16), (1, 2, 4)], 2, 1),
        ([(1, 1, 16), (1, 16, 16)], 15, 1),
        ([(1, 1, 16), (1, 16, 16)], 2, 0),
    ],
)
def test_the_tightest_profile_is_taken(
    profiles: list[tuple[int, int, int]], count: int, chosen: int
) -> None:
    found = replace(tensors(), profiles=tuple(profile_of(*batches, CLIP) for batches in profiles))
    assert found.choose({"frames": (count, *CLIP)}) == chosen


def test_sizes_of_other_profiles_are_taken_too() -> None:
    other = (3, *CLIP[1:])
    found = replace(tensors(), profiles=(PROFILE, profile_of(1, 1, 2, other)))
    assert found.choose({"frames": (2, *other)}) == 1
    with pytest.raises(
        InputError, match=r"\[1 to 16, 2, 3, 4, 3\] or \[1 to 2, 3, 3, 4, 3\].*at most 16"
    ):
        found.choose({"frames": (3, *other)})


def test_tensor_bytes() -> None:
    assert tensor_bytes((16, 17, 128, 128, 3), np.dtype(np.uint8)) == 13_369_344
    assert tensor_bytes((2, 18, 5), np.dtype(np.float16)) == 360


def test_each_gpu_has_its_own_runtime_cache() -> None:
    plan = Path("engines/tensorrt-rtx-fp16-portable-0123.plan")
    assert runtime_cache_file(plan, "NVIDIA L4").name == (
        "tensorrt-rtx-fp16-portable-0123.nvidia-l4.runtime-cache"
    )


# Runs, on the stand-in.


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.usefixtures("gpu")
def test_results_are_those_of_the_engine(tmp_path: Path, flavour: Flavour) -> None:
    with open_session(write_engine(tmp_path, flavour)) as session:
        for count in (16, 3, 1, 3):
            clips = clips_of(count, seed=count)
            ids, latents = session.run({"frames": clips}, ["ids", "latents"])
            assert ids.dtype == np.int32
            assert latents.dtype == np.float32
            np.testing.assert_array_equal(ids, ids_of(clips))
            np.testing.assert_array_equal(latents[..., 1], ids_of(clips) * np.float32(0.5))
        (latents,) = session.run({"frames": clips}, ["latents"])
        assert latents.shape == (3, 2, 3, 4, 2)


def test_stages_are_timed_where_somebody_asks(tmp_path: Path, gpu: Gpu) -> None:
    cuda, *_ = gpu
    with open_session(write_engine(tmp_path)) as session:
        session.run({"frames": clips_of(1)}, ["ids"])
        assert session.stage_times.seconds is None
        session.stage_times.seconds = []
        cuda.milliseconds = [1, 20, 0.5, 2, 30, 1.5]
        for _ in range(2):
            session.run({"frames": clips_of(1)}, ["ids"])
        assert session.stage_times.seconds == [(0.001, 0.02, 0.0005), (0.002, 0.03, 0.0015)]
        # A run that fails is no measurement, and leaves the next one whole.
        with pytest.raises(InputError):
            session.run({"frames": clips_of(99)}, ["ids"])
        cuda.milliseconds = [3, 4, 5]
        session.run({"frames": clips_of(1)}, ["ids"])
        assert session.stage_times.seconds[2:] == [(0.003, 0.004, 0.005)]


def test_stages_are_spans_where_spans_are_collected(
    tmp_path: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.sdk.trace", reason="the extra [dev]")
    cuda, *_ = gpu
    with open_session(write_engine(tmp_path)) as session:
        spans = collect_spans(monkeypatch)
        cuda.milliseconds = [1, 20, 0.5]
        session.run({"frames": clips_of(1)}, ["ids"])
        assert session.stage_times.seconds is None
    found = spans.take()
    assert [one.name for one in found] == [
        "magvit.host_to_device",
        "magvit.compute",
        "magvit.device_to_host",
    ]
    assert [one.end_time - one.start_time for one in found] == [1_000_000, 20_000_000, 500_000]


@pytest.mark.usefixtures("gpu")
def test_results_belong_to_the_caller(tmp_path: Path) -> None:
    with open_session(write_engine(tmp_path)) as session:
        (first,) = session.run({"frames": clips_of(2, seed=1)}, ["ids"])
        session.run({"frames": clips_of(2, seed=2)}, ["ids"])
    np.testing.assert_array_equal(first, ids_of(clips_of(2, seed=1)))


@pytest.mark.usefixtures("gpu")
def test_strided_clips_are_taken(tmp_path: Path) -> None:
    clips = clips_of(8)[::2, :, :, ::-1]
    with open_session(write_engine(tmp_path)) as session:
        np.testing.assert_array_equal(session.run({"frames": clips}, ["ids"])[0], ids_of(clips))


def test_third_run_of_a_shape_replays_a_graph(tmp_path: Path, gpu: Gpu) -> None:
    cuda, trt, _ = gpu
    with open_session(write_engine(tmp_path)) as session:
        for seed in range(4):
            for count in (5, 16):
                clips = clips_of(count, seed)
                (ids,) = session.run({"frames": clips}, ["ids"])
                np.testing.assert_array_equal(ids, ids_of(clips))
        # Each shape: one plain launch, one capture; the capture and the rest are replayed.
        assert [context.enqueued for context in trt.contexts] == [2, 2]
        assert cuda.calls.count("replay") == 6
        assert session.capabilities.launches == "CUDA graphs, captured for each shape"


def test_a_shape_seen_before_allocates_nothing(tmp_path: Path, gpu: Gpu) -> None:
    cuda, trt, _ = gpu
    with open_session(write_engine(tmp_path)) as session:
        session.warm_up((2, *CLIP))
        before = cuda.allocations, len(trt.contexts)
        for seed in range(3):
            session.run({"frames": clips_of(2, seed)}, ["ids"])
        assert (cuda.allocations, len(trt.contexts)) == before


def test_rtx_captures_its_own_graphs(tmp_path: Path, gpu: Gpu) -> None:
    cuda, _, rtx = gpu
    with open_session(write_engine(tmp_path, "tensorrt-rtx")) as session:
        session.warm_up((2, *CLIP))
        session.run_device({"frames": DlpackArray(cuda, clips_of(2))}, ["ids"])
        assert session.capabilities.launches == "CUDA graphs, captured by TensorRT-RTX"
    assert "replay" not in cuda.calls
    assert [c.graphs for c in rtx.contexts] == ["WHOLE_GRAPH_CAPTURE"] * 2 + ["DISABLED"]


def test_failed_capture_is_recorded_and_runs_go_on(
    tmp_path: Path, gpu: Gpu, caplog: pytest.LogCaptureFixture
) -> None:
    gpu[0].capture_fails = True
    with open_session(write_engine(tmp_path)) as session:
        for seed in range(3):
            for count in (1, 2):
                clips = clips_of(count, seed)
                (ids,) = session.run({"frames": clips}, ["ids"])
                np.testing.assert_array_equal(ids, ids_of(clips))
        launches = session.capabilities.launches
    assert launches.startswith("plain launches: capture into a CUDA graph failed: cudaErrorStream")
    assert [record.getMessage() for record in caplog.records] == [launches]


@pytest.mark.usefixtures("gpu")
def test_more_shapes_than_are_kept(tmp_path: Path) -> None:
    with open_session(write_engine(tmp_path)) as session:
        for _ in range(3):
            for count in range(1, SHAPES_KEPT + 4):
                clips = clips_of(count)
                (ids,) = session.run({"frames": clips}, ["ids"])
                np.testing.assert_array_equal(ids, ids_of(clips))


@pytest.mark.usefixtures("gpu")
def test_threads_share_the_workers(tmp_path: Path) -> None:
    with (
        open_session(write_engine(tmp_path), workers=2) as session,
        ThreadPoolExecutor(8) as threads,
    ):
        assert session.capabilities.workers == 2
        batches = [clips_of(1 + seed % 16, seed) for seed in range(200)]
        session.warm_up((1, *CLIP))
        results = threads.map(lambda clips: session.run({"frames": clips}, ["ids"])[0], batches)
        for clips, ids in zip(batches, results, strict=True):
            np.testing.assert_array_equal(ids, ids_of(clips))


@pytest.mark.usefixtures("gpu")
def test_workers_reach_an_engine_through_the_choice_of_a_backend(tmp_path: Path) -> None:
    engine = write_engine(tmp_path)
    for workers, found in ((None, 1), (3, 3)):
        with open_engine(engine, Opening("asked for", workers=workers)) as session:
            assert session.capabilities.workers == found


def test_a_run_waits_for_a_free_worker(
    tmp_path: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on, running = threading.Semaphore(0), threading.Event(), []

    def synchronize(_: int) -> tuple[object]:
        running.append(threading.get_ident())
        inside.release()
        assert go_on.wait(30)
        return (stand_in_gpu.OK,)

    with open_session(write_engine(tmp_path), workers=2) as session:
        monkeypatch.setattr(gpu[0], "cudaStreamSynchronize", synchronize)
        with ThreadPoolExecutor(3) as threads:
            for _ in range(3):
                threads.submit(session.run, {"frames": clips_of(1)}, ["ids"])
            inside.acquire()
            inside.acquire()
            assert not inside.acquire(timeout=0.1)
            assert len(set(running)) == 2
            go_on.set()
            assert inside.acquire(timeout=30)


def test_closing_frees_everything(tmp_path: Path, gpu: Gpu) -> None:
    cuda = gpu[0]
    session = open_session(write_engine(tmp_path), workers=2)
    session.warm_up((3, *CLIP))
    assert cuda.blocks
    session.close()
    session.close()
    assert not cuda.blocks
    assert not any(cuda.live.values())
    with pytest.raises(BackendError, match="closed"):
        session.run({"frames": clips_of(1)}, ["ids"])


def test_dropping_it_frees_everything(tmp_path: Path, gpu: Gpu) -> None:
    cuda = gpu[0]
    session = open_session(write_engine(tmp_path), workers=2)
    session.run({"frames": clips_of(3)}, ["ids"])
    assert cuda.blocks
    del session
    gc.collect()
    assert not cuda.blocks
    assert not any(cuda.live.values())


def test_no_room_for_the_second_worker(tmp_path: Path, gpu: Gpu) -> None:
    cuda = gpu[0]
    allocate = cuda.allocate
    failed = stand_in_gpu.CudaError.cudaErrorMemoryAllocation
    cuda.allocate = lambda size: (failed, None) if cuda.allocations > 9 else allocate(size)  # type: ignore[method-assign]
    with pytest.raises(BackendError, match=r"cudaErrorMemoryAllocation .*fewer workers"):
        open_session(write_engine(tmp_path), workers=2)
    assert not cuda.blocks
    assert not any(cuda.live.values())


def test_what_tensorrt_says_is_in_the_message(tmp_path: Path, gpu: Gpu) -> None:
    trt = gpu[1]
    with open_session(write_engine(tmp_path)) as session:
        trt.fails = "cuDNN is upset"
        with pytest.raises(BackendError, match="can't run the engine: found cuDNN is upset"):
            session.run({"frames": clips_of(1)}, ["ids"])
        trt.fails = ""
        (ids,) = session.run({"frames": clips_of(1)}, ["ids"])
        np.testing.assert_array_equal(ids, ids_of(clips_of(1)))


@pytest.mark.usefixtures("gpu")
def test_plan_that_tensorrt_refuses(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"can't load .*: found magic tag. .*magvit build"):
        open_session(write_engine(tmp_path, content=b"of another version"))


@pytest.mark.usefixtures("gpu")
def test_plan_that_is_not_what_the_sidecar_says(tmp_path: Path) -> None:
    content = plan_of((profile_of(1, 4, 8, CLIP),))
    with pytest.raises(BundleError, match="isn't what its sidecar says"):
        open_session(write_engine(tmp_path, content=content))


def test_missing_plugins_are_named(
    tmp_path: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGVIT_LIBRARY_DIR", str(tmp_path))
    engine = write_engine(tmp_path)
    needy = replace(engine, record=msgspec.structs.replace(engine.record, plugin_layers={"LFQ": 1}))
    with pytest.raises(BackendError, match="needs the plugin library"):
        open_session(needy)
    library = tmp_path / "libmagvit_plugins.so"
    library.touch()
    open_session(needy).close()
    assert gpu[1].libraries == [str(library)]


# The runtime cache of TensorRT-RTX.


@pytest.mark.usefixtures("gpu")
def test_runtime_cache_is_kept_beside_the_plan(tmp_path: Path) -> None:
    engine = write_engine(tmp_path, "tensorrt-rtx")
    file = runtime_cache_file(engine.plan, "Stand-in GPU")
    open_session(engine).close()
    assert json.loads(file.read_text()) == ["WHOLE_GRAPH_CAPTURE"]
    open_session(engine).close()
    assert len(json.loads(file.read_text())) == 2
    assert sorted(path.name for path in file.parent.iterdir()) == ["engine.plan", file.name]


@pytest.mark.usefixtures("gpu")
def test_runtime_cache_of_another_environment_is_replaced(tmp_path: Path) -> None:
    engine = write_engine(tmp_path, "tensorrt-rtx")
    file = runtime_cache_file(engine.plan, "Stand-in GPU")
    file.write_bytes(b"of another driver")
    open_session(engine).close()
    assert json.loads(file.read_text()) == ["WHOLE_GRAPH_CAPTURE"]


def test_runtime_cache_that_cannot_be_written_is_logged(
    tmp_path: Path, gpu: Gpu, caplog: pytest.LogCaptureFixture
) -> None:
    engine = write_engine(tmp_path, "tensorrt-rtx")
    runtime_cache_file(engine.plan, "Stand-in GPU").mkdir()
    open_session(engine).close()
    assert "the runtime cache is not kept" in caplog.text
    assert not gpu[0].blocks


# Arrays on the device.


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
def test_device_runs_read_and_give_device_memory(
    tmp_path: Path, gpu: Gpu, flavour: Flavour
) -> None:
    cuda = gpu[0]
    clips = clips_of(3)
    with open_session(write_engine(tmp_path, flavour)) as session:
        array = DlpackArray(cuda, clips)
        latents, ids = session.run_device({"frames": array}, ["latents", "ids"])
        session.run_device({"frames": DlpackArray(cuda, clips_of(5))}, ["ids"])
        assert (ids.shape, ids.dtype) == ((3, 2, 3, 4), np.dtype(np.int32))
        assert latents.shape == (3, 2, 3, 4, 2)
        with pytest.raises(InputError, match="fit no profile"):
            session.run_device({"frames": DlpackArray(cuda, clips_of(17))}, ["ids"])
        again = view_device_array("ids", ids, open_device(), 77)
        assert cuda.owns(again.pointer, clips.size // 3 * 4)
        interface = ids.__cuda_array_interface__
        assert interface["data"] == (again.pointer, False)
        assert interface["stream"] is None
    # The results outlive their session, and their memory the results while somebody reads it.
    del ids, latents
    gc.collect()
    assert again.pointer in cuda.blocks
    values = np.frombuffer(cuda.blocks[again.pointer], np.int32).reshape(again.shape)
    np.testing.assert_array_equal(values, ids_of(clips))
    pointer = again.pointer
    del again, values, interface
    gc.collect()
    assert pointer not in cuda.blocks


def test_inputs_begin_where_tensorrt_can_read_them(tmp_path: Path, gpu: Gpu) -> None:
    with open_session(write_engine(tmp_path)) as session:
        shifted = DlpackArray(gpu[0], clips_of(2), shift=16)
        with pytest.raises(InputError, match=r"16 bytes past a multiple of 256.*copy of the slice"):
            session.run_device({"frames": shifted}, ["ids"])
