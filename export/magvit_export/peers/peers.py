"""Other ways to run a role of a bundle with the same weights, for `magvit bench --peers`.

docs/benchmarking.md says how each is set up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np

from magvit_export.onnx.plain_files import plain_graph
from magvit_runtime.benchmarks.comparison import YARDSTICK
from magvit_runtime.benchmarks.encoders import Frames, Ids, NotRun, TimedEncoder
from magvit_runtime.benchmarks.results import EncoderRecord
from magvit_runtime.bundle.manifest import Precision, Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.errors import first_line

_CPU = "CPUExecutionProvider"

TORCH_PEERS = {
    "PyTorch eager": "torch",
    "torch.compile": "torch",
    "Torch-TensorRT": "torch_tensorrt",
}

Opener = Callable[[Bundle, Role, Precision, int], TimedEncoder]


def open_peers(
    bundle: Bundle, precision: Precision, threads: int, weights: str | None, role: Role = "encode"
) -> Iterator[TimedEncoder | NotRun]:
    """Opens each peer that is installed here, and says why the others don't run.

    Args:
        bundle: The bundle.
        precision: Which of its graphs.
        threads: CPU threads of one run.
        weights: What the bundle was made of, for PyTorch; seeded bundles need none.
        role: What is timed.
    """
    openers: dict[str, tuple[str, Opener]] = {
        YARDSTICK: ("onnxruntime", _onnxruntime),
        "OpenVINO": ("openvino", _openvino),
        **{
            name: (package, partial(_torch, name=name, weights=weights))
            for name, package in TORCH_PEERS.items()
        },
    }
    for name, (package, opener) in openers.items():
        if find_spec(package) is None:
            yield NotRun(name, f"{package} isn't installed")
            continue
        try:
            yield opener(bundle, role, precision, threads)
        # Whatever a library of others raises, the rest is still worth timing.
        except Exception as error:
            yield NotRun(name, first_line(error))


def _onnxruntime(bundle: Bundle, role: Role, precision: Precision, threads: int) -> TimedEncoder:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    available = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", _CPU) if name in available]
    graph = bundle.graphs(role)[precision]
    with plain_graph(bundle.verified_graph(graph)) as path:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    given, made = graph.inputs[0].name, graph.outputs[0].name

    def encode(clips: Frames) -> Ids:
        (ids,) = session.run([made], {given: clips})
        return np.asarray(ids)

    record = EncoderRecord(
        name=YARDSTICK,
        kind="peer",
        version=onnxruntime.__version__,
        device=session.get_providers()[0].removesuffix("ExecutionProvider"),
        precision=precision,
        settings=f"the bundle's graph, {threads} threads, all else default",
    )
    return TimedEncoder(record, encode, close=lambda: None)


def _openvino(bundle: Bundle, role: Role, precision: Precision, threads: int) -> TimedEncoder:
    import openvino

    from magvit_export.onnx.plain import plain_model

    graph = bundle.graphs(role)[precision]
    core = openvino.Core()
    # By default, OpenVINO computes in bfloat16 if the CPU has it.
    hint = {"fp16": "f16", "bf16": "bf16"}.get(precision, "f32")
    compiled = core.compile_model(
        core.read_model(plain_model(bundle, graph).SerializeToString()),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    request = compiled.create_infer_request()
    ids = compiled.output(graph.outputs[0].name)

    def encode(clips: Frames) -> Ids:
        return np.array(request.infer([clips], share_inputs=True)[ids])

    record = EncoderRecord(
        name="OpenVINO",
        kind="peer",
        version=version("openvino"),
        device="CPU",
        precision=precision,
        settings=f"the bundle's graph, {threads} threads, {hint}, latency hint",
    )
    return TimedEncoder(record, encode, close=lambda: None)


def _torch(
    bundle: Bundle,
    role: Role,
    precision: Precision,
    threads: int,
    *,
    name: str,
    weights: str | None,
) -> TimedEncoder:

    from magvit_export.peers import pytorch

    open_peer = {
        "PyTorch eager": pytorch.eager,
        "torch.compile": pytorch.compiled,
        "Torch-TensorRT": pytorch.tensorrt,
    }[name]
    return open_peer(name, bundle, role, precision, threads, weights)
