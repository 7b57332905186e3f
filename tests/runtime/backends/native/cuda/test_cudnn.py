"""Requests to cuDNN: by its real Python package if that is installed, else by a stand-in.

The stand-in has plans with names, notes and times, and none of cuDNN's arithmetic.
"""

# Names and signatures are those of cuDNN.
# ruff: noqa: ARG002

from __future__ import annotations

import gc
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from runtime import stand_in_gpu
from runtime.stand_in_cudnn import operators_on
from runtime.stand_in_gpu import Cuda

from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry, Padding, PlanCache
from magvit_runtime.backends.native.cuda.cudnn_convs import CudnnConvs
from magvit_runtime.backends.native.cuda.cudnn_graph import conv_graph, import_cudnn
from magvit_runtime.cuda.device import open_device
from magvit_runtime.errors import BackendError

CAUSAL = ConvGeometry(
    precision="fp16",
    batch=2,
    sizes=(5, 9, 11),
    in_channels=16,
    out_channels=24,
    kernel=(3, 3, 3),
    stride=(1, 2, 2),
    pads_before=(2, 1, 1),
    pads_after=(0, 1, 1),
)
IMAGE = replace(CAUSAL, sizes=(1, 9, 11), kernel=(1, 3, 3), pads_before=(0, 1, 1), stride=(1, 1, 1))


@pytest.mark.parametrize("geometry", [CAUSAL, IMAGE, replace(CAUSAL, precision="fp32")])
@pytest.mark.parametrize("padding", ["implied", "border"])
def test_cudnn_reads_the_graph_as_this_conv(geometry: ConvGeometry, padding: Padding) -> None:
    cudnn = pytest.importorskip("cudnn", reason="pip install nvidia-cudnn-frontend")
    graph, tensors = conv_graph(cudnn, geometry, padding)
    (node,) = graph.nodes
    axes = list(range(3)) if geometry is not IMAGE else [1, 2]
    sizes = geometry.sizes if padding == "implied" else geometry.padded_sizes
    assert tensors["image"].dim == [2, 16, *(sizes[axis] for axis in axes)]
    assert tensors["weight"].dim == [24, 16, *(geometry.kernel[axis] for axis in axes)]
    # The output shape by cuDNN's own rule for tensors, padding and stride.
    from cudnn import _pygraph

    assert _pygraph._conv_fprop_dims(node) == tensors["output"].dim
    for tensor in tensors.values():
        assert tensor.stride[1] == 1
        assert tensor.stride[-1] == tensor.dim[1]
        assert tensor.stride[0] * tensor.dim[0] == _size(tensor.dim)


def _size(dims: list[int]) -> int:
    return dims[0] * (_size(dims[1:]) if len(dims) > 1 else 1)


class RefusedError(Exception):
    """cuDNN's error for convs without a plan."""


class Knob(SimpleNamespace):
    def __hash__(self) -> int:
        return hash(self.name)


class StandInCudnn(ModuleType):
    """Two engines for either padding; engine 9 can't be built, and asks for no time.

    An engine fills the output with 1, unless `wrong` has another number for it.
    """

    cudnnGraphNotSupportedError = RefusedError  # noqa: N815
    data_type = SimpleNamespace(HALF="half", FLOAT="float")
    heur_mode = SimpleNamespace(A="A", B="B", FALLBACK="FALLBACK")
    numerical_note = SimpleNamespace(
        REDUCED_PRECISION_REDUCTION="reduced",
        DOWN_CONVERT_INPUTS="down",
        NONDETERMINISTIC="random",
        TENSOR_CORE="tensor core",
    )
    knob_type = SimpleNamespace(__members__={"TILE_M": Knob(name="TILE_M")})

    def __init__(self, cuda: Cuda) -> None:
        super().__init__("cudnn")
        self.cuda = cuda
        self.version = 91900
        self.engines = [9, 3, 4]
        self.wrong: dict[int, float] = {}
        self.workspaces: dict[int, int] = {}
        self.streams: dict[object, int] = {}
        self.graphs: list[weakref.ref[StandInGraph]] = []
        self.notes: list[list[str]] = []
        self.executed: list[tuple[int, dict[str, int]]] = []
        self.handles = 0

    def backend_version(self) -> int:
        return self.version

    def create_handle(self) -> object:
        self.handles += 1
        return object()

    def destroy_handle(self, handle: object) -> None:
        self.handles -= 1

    def set_stream(self, handle: object, stream: int) -> None:
        self.streams[handle] = stream

    def pygraph(self, **options: Any) -> StandInGraph:
        graph = StandInGraph(self)
        self.graphs.append(weakref.ref(graph))
        return graph


class StandInTensor:
    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self


class StandInGraph:
    def __init__(self, cudnn: StandInCudnn) -> None:
        self.cudnn = cudnn
        self.plans: list[tuple[int, dict[Knob, int]]] = []
        self.built: list[int] = []
        # As the real one's, which only the garbage collector destroys.
        self.itself = self

    def tensor(self, name: str, **facts: Any) -> StandInTensor:
        return StandInTensor(name)

    def conv_fprop(self, **facts: Any) -> StandInTensor:
        return StandInTensor("output")

    def deselect_numeric_notes(self, notes: list[str]) -> None:
        self.cudnn.notes.append(notes)

    def create_execution_plans(self, modes: list[str]) -> None:
        if not self.cudnn.engines:
            raise RefusedError("no engine for this conv")
        knob = self.cudnn.knob_type.__members__["TILE_M"]
        self.plans = [(engine, {knob: 64}) for engine in self.cudnn.engines]

    def get_execution_plan_count(self) -> int:
        return len(self.plans)

    def build_plan_at_index(self, index: int) -> None:
        if self.plans[index][0] == 9:
            raise RefusedError("engine 9 can't be built")
        self.built.append(index)

    def get_workspace_size_plan_at_index(self, index: int) -> int:
        engine = self.plans[index][0]
        return self.cudnn.workspaces.get(engine, 100 * engine)

    def get_engine_and_knobs_at_index(self, index: int) -> tuple[int, dict[Knob, int]]:
        return self.plans[index]

    def execute_plan_at_index(
        self, pack: dict[Any, int], workspace: int, index: int, handle: object
    ) -> None:
        assert len(pack) == 3
        assert index in self.built
        engine, knobs = self.plans[index]
        self.cudnn.executed.append((engine, {knob.name: n for knob, n in knobs.items()}))
        output = next(address for tensor, address in pack.items() if tensor.name == "output")
        block = self.cudnn.cuda.blocks.get(output)
        if block is not None:
            value = np.float16(self.cudnn.wrong.get(engine, 1.0))
            fill = np.frombuffer(block, np.float16)
            self.cudnn.cuda.submit(self.cudnn.streams[handle], lambda: fill.fill(value))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return stand_in_gpu.install(monkeypatch)[0]


def open_convs(cudnn: StandInCudnn, folder: Path) -> CudnnConvs:
    device = open_device()
    cache = PlanCache(folder / "engines", device.name, "91900")
    return CudnnConvs(device, cudnn, operators_on(cudnn.cuda), cache)


def run(convs: CudnnConvs, geometry: ConvGeometry = CAUSAL) -> None:
    queue = convs.open_queue(7)
    convs.enqueue(geometry, queue, image=1, weight=2, output=3, workspace=4)
    convs.close_queue(queue)


def milliseconds(*plans: tuple[float, float]) -> list[float]:
    """Plans' times by CUDA events: of a first launch, of another, and of three replays of ten."""
    return [time for once, ten in plans for time in (once + 15, once, ten + 1, ten, ten + 2)]


# Times of engines 3 and 4 with implied padding, and then with a border.
TIMES = milliseconds((3, 30), (2, 19), (1.6, 15), (2.5, 25))


def test_the_fastest_plan_is_chosen_run_and_kept(cuda: Cuda, tmp_path: Path) -> None:
    cudnn = StandInCudnn(cuda)
    convs = open_convs(cudnn, tmp_path)
    blocks = len(cuda.blocks)
    cuda.milliseconds = list(TIMES)
    plan = convs.plan(CAUSAL)
    assert (plan.padding, plan.engine, plan.knobs) == ("border", 3, {"TILE_M": 64})
    assert (plan.workspace, plan.microseconds) == (300, 1500.0)
    assert len(cuda.blocks) == blocks
    cudnn.executed.clear()
    run(convs)
    assert cudnn.executed == [(3, {"TILE_M": 64})]
    convs.close()
    assert cudnn.handles == 0
    assert not cuda.live["stream"]

    # Another process needs no times.
    again = open_convs(cudnn, tmp_path)
    assert again.plan(CAUSAL) == plan
    run(again)
    assert cudnn.executed[-1] == (3, {"TILE_M": 64})


def test_a_plan_that_is_much_slower_is_launched_once_or_twice(cuda: Cuda, tmp_path: Path) -> None:
    cudnn = StandInCudnn(cuda)
    cudnn.engines = [3, 4]
    convs = open_convs(cudnn, tmp_path)
    cuda.milliseconds = [*milliseconds((1, 10)), 21.9, 2.2, *milliseconds((2.05, 20)), 22.1]
    assert convs.plan(CAUSAL).engine == 3
    assert not cuda.milliseconds
    # Engine 4 twice, and once with a border; once more as the witness.
    assert sum(engine == 4 for engine, _ in cudnn.executed) == 4
    convs.close()
    assert not cuda.live["executable"]


def test_a_fast_engine_that_is_wrong_is_named_and_not_chosen(
    cuda: Cuda, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cudnn = StandInCudnn(cuda)
    cudnn.engines = [2, 3, 4]
    cudnn.wrong = {2: 1.1}
    convs = open_convs(cudnn, tmp_path)
    cuda.milliseconds = milliseconds((1, 10), (1.5, 15), (1.2, 12)) * 2
    assert convs.plan(CAUSAL).engine == 4
    assert "engine 2 computes something else than cuDNN's engine 4, 3" in caplog.text


@pytest.mark.parametrize("wrong", [float("nan"), 0.0, 1.1])
def test_two_engines_that_differ_are_both_refused(cuda: Cuda, tmp_path: Path, wrong: float) -> None:
    cudnn = StandInCudnn(cuda)
    cudnn.wrong = {3: wrong}
    convs = open_convs(cudnn, tmp_path)
    cuda.milliseconds = list(TIMES)
    with pytest.raises(
        BackendError, match="engine 3 computes something else than cuDNN's engine 4"
    ):
        convs.plan(CAUSAL)


def test_an_engine_that_is_alone_is_taken(cuda: Cuda, tmp_path: Path) -> None:
    cudnn = StandInCudnn(cuda)
    cudnn.engines = [3]
    convs = open_convs(cudnn, tmp_path)
    cuda.milliseconds = milliseconds((3, 30), (2, 20))
    assert convs.plan(CAUSAL).padding == "border"


def test_a_plan_whose_workspace_finds_no_memory_is_skipped(cuda: Cuda, tmp_path: Path) -> None:
    cudnn = StandInCudnn(cuda)
    cudnn.workspaces = {4: cuda.memory + 1}
    convs = open_convs(cudnn, tmp_path)
    blocks = len(cuda.blocks)
    cuda.milliseconds = milliseconds((3, 30), (1.5, 15))
    assert convs.plan(CAUSAL).engine == 3
    assert len(cuda.blocks) == blocks


def test_losing_plans_are_destroyed_before_a_plan_is_used(cuda: Cuda, tmp_path: Path) -> None:
    cudnn = StandInCudnn(cuda)
    convs = open_convs(cudnn, tmp_path)
    cuda.milliseconds = list(TIMES)
    gc.disable()  # Nothing is collected but what is collected on purpose.
    try:
        convs.plan(CAUSAL)
        alive = [graph for reference in cudnn.graphs if (graph := reference())]
    finally:
        gc.enable()
    # The plan that won, alone in a graph of its own.
    assert [[graph.plans[i][0] for i in graph.built] for graph in alive] == [[3]]


def test_without_padding_there_is_one_way(cuda: Cuda, tmp_path: Path) -> None:
    convs = open_convs(StandInCudnn(cuda), tmp_path)
    cuda.milliseconds = TIMES[:10]
    plan = convs.plan(replace(CAUSAL, pads_before=(0, 0, 0), pads_after=(0, 0, 0)))
    assert (plan.padding, plan.engine, plan.microseconds) == ("implied", 4, 1900.0)


@pytest.mark.parametrize(("engine", "knob"), [(8, "TILE_M"), (3, "KNOB_OF_ANOTHER_VERSION")])
def test_a_kept_plan_that_cudnn_lacks_is_timed_again(
    cuda: Cuda, tmp_path: Path, engine: int, knob: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = PlanCache(tmp_path / "engines", "Stand-in GPU", "91900")
    convs = open_convs(StandInCudnn(cuda), tmp_path)
    cuda.milliseconds = list(TIMES)
    plan = convs.plan(CAUSAL)
    cache.put(CAUSAL, type(plan)(plan.padding, engine, {knob: 64}, plan.workspace, 1.0))
    cache.save()
    convs = open_convs(StandInCudnn(cuda), tmp_path)
    cuda.milliseconds = list(TIMES)
    assert convs.plan(CAUSAL) == plan
    assert "is timed again" in caplog.text


def test_float32_leaves_out_tensor_cores_and_tf32_does_not(cuda: Cuda, tmp_path: Path) -> None:
    cudnn = StandInCudnn(cuda)
    convs = open_convs(cudnn, tmp_path)
    for precision in ("fp32", "tf32", "fp16"):
        cuda.milliseconds = list(TIMES)
        convs.plan(replace(CAUSAL, precision=precision))
        assert ("tensor core" in cudnn.notes[-1]) == (precision == "fp32")
        assert {"reduced", "down", "random"} <= set(cudnn.notes[-1])


def test_an_old_cudnn_is_refused(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = StandInCudnn(cuda)
    monkeypatch.setitem(sys.modules, "cudnn", cudnn)
    cudnn.version = 91002
    with pytest.raises(BackendError, match=r"wrong or slow.*9\.10\.2.*9\.15\.0 or newer"):
        import_cudnn()
    cudnn.version = 91500
    assert import_cudnn() is cudnn


def test_no_plan_at_all_is_an_error_that_says_why(cuda: Cuda, tmp_path: Path) -> None:
    cudnn = StandInCudnn(cuda)
    cudnn.engines = []
    convs = open_convs(cudnn, tmp_path)
    blocks = len(cuda.blocks)
    with pytest.raises(BackendError, match=r"no plan .* no engine for this conv.*onnxruntime"):
        convs.plan(CAUSAL)
    assert len(cuda.blocks) == blocks


def test_a_conv_that_fails_is_named(
    cuda: Cuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convs = open_convs(StandInCudnn(cuda), tmp_path)
    cuda.milliseconds = list(TIMES)
    convs.plan(CAUSAL)

    def fail(*_: object) -> None:
        raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")

    monkeypatch.setattr(StandInGraph, "execute_plan_at_index", fail)
    with pytest.raises(BackendError, match=r"fp16 2x5x9x11 16>24 .*EXECUTION_FAILED"):
        run(convs)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cudnn", None)
    with pytest.raises(BackendError, match=r"needs nvidia-cudnn-frontend, .*\[native-cuda\]"):
        import_cudnn()


def test_a_package_without_cudnn_itself_is_named(
    cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudnn = StandInCudnn(cuda)
    monkeypatch.setitem(sys.modules, "cudnn", cudnn)

    def missing() -> int:
        raise RuntimeError("Unable to find symbol cudnnGetVersion")

    cudnn.backend_version = missing  # type: ignore[method-assign]
    with pytest.raises(BackendError, match=r"cudnnGetVersion.*magvit-runtime\[native-cuda\]"):
        import_cudnn()
