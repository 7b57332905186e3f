"""TensorRT sessions on this machine's GPU, with an engine that is built for it."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from magvit_export.engines import BuildOptions, build_engine, plan_build
from magvit_runtime import BackendError, InputError, Tokenizer, ids_to_bits, open_bundle
from magvit_runtime.agreement.signs import compare_latents
from magvit_runtime.backends.trt.engines import Engine
from magvit_runtime.backends.trt.session import TensorRtSession
from magvit_runtime.hardware.gpus import list_gpus
from magvit_runtime.hardware.machine import Machine


@pytest.fixture(scope="module")
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Engine]:
    """A copy of the tiny bundle with an engine for this machine's GPU."""
    if not list_gpus():
        pytest.skip("no NVIDIA GPU here (nvidia-smi lists none)")
    machine = Machine()
    if not machine.flavours:
        pytest.skip("no TensorRT here: pip install 'magvit-runtime[tensorrt]' or [rtx]")
    pytest.importorskip("cuda.bindings", reason="pip install cuda-bindings")
    tiny_bundle = request.getfixturevalue("tiny_bundle")
    path = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("gpu") / "bundle"))
    bundle = open_bundle(path)
    options = BuildOptions(precision="fp32", profile="1/2/4", frames=5, height=32, width=32)
    try:
        plan = plan_build(bundle, options, machine)
    except (BackendError, InputError) as error:
        pytest.skip(f"no engine can be built here: {error}")
    return path, build_engine(bundle, plan).engine


def gpu_clips(count: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Noise on a flat background."""
    clips = np.zeros((count, 5, 32, 32, 3), np.uint8)
    clips[:, :, 8:20, 8:20] = np.random.default_rng(seed).integers(
        0, 256, clips[:, :, 8:20, 8:20].shape
    )
    return clips


def assert_agrees(path: Path, clips: np.ndarray[Any, Any], latents: Any, ids: Any) -> None:
    """The parity rule of docs/parity.md, with the bound for TF32, which kernels may use."""
    with Tokenizer.open(path, backend="onnxruntime") as tokenizer:
        agreement = compare_latents(latents, tokenizer.latents(clips))
    assert agreement.passes("tf32")
    bits = ids_to_bits(ids, latents.shape[1])
    np.testing.assert_array_equal(bits, np.moveaxis(latents > 0, 1, -1))


def test_agrees_with_onnx_runtime_also_in_replays(built: tuple[Path, Engine]) -> None:
    path, engine = built
    with TensorRtSession(engine, precision="fp32", reason="a test") as session:
        for seed in range(4):
            for count in (4, 1):
                clips = gpu_clips(count, seed)
                latents, ids = session.run({"frames": clips}, ["latents", "ids"])
                assert_agrees(path, clips, latents, ids)
        assert "failed" not in session.capabilities.launches


def test_threads_get_their_own_results(built: tuple[Path, Engine]) -> None:
    batches = [gpu_clips(1 + seed % 4, seed) for seed in range(32)]
    with TensorRtSession(built[1], precision="fp32", reason="a test") as session:
        expected = [session.run({"frames": clips}, ["ids"])[0] for clips in batches]
    with (
        TensorRtSession(built[1], precision="fp32", workers=2, reason="a test") as session,
        ThreadPoolExecutor(4) as threads,
    ):
        session.warm_up((4, 5, 32, 32, 3))
        results = threads.map(lambda clips: session.run({"frames": clips}, ["ids"])[0], batches)
        for wanted, ids in zip(expected, results, strict=True):
            np.testing.assert_array_equal(ids, wanted)


def test_takes_and_gives_tensors_of_torch(built: tuple[Path, Engine]) -> None:
    torch = pytest.importorskip("torch", reason="pip install torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    clips = gpu_clips(4, 0)
    with TensorRtSession(built[1], precision="fp32", reason="a test") as session:
        (expected,) = session.run({"frames": clips}, ["ids"])
        for stream in (torch.cuda.default_stream(), torch.cuda.Stream()):
            with torch.cuda.stream(stream):
                on_gpu = torch.from_numpy(clips).cuda(non_blocking=True)
                (ids,) = session.run_device({"frames": on_gpu}, ["ids"])
                ours = torch.from_dlpack(ids)
                assert ours.data_ptr() == ids.__cuda_array_interface__["data"][0]
                np.testing.assert_array_equal(ours.cpu().numpy(), expected)
                other = torch.as_tensor(ids, device="cuda")
                np.testing.assert_array_equal(other.cpu().numpy(), expected)
                # By the older protocol alone, as of Numba and PyCUDA.
                facts = {**on_gpu.__cuda_array_interface__, "version": 3}
                facts["stream"] = stream.cuda_stream or 1  # 1 is the legacy default stream.
                old = SimpleNamespace(__cuda_array_interface__=facts)
                (ids,) = session.run_device({"frames": old}, ["ids"])
                np.testing.assert_array_equal(torch.from_dlpack(ids).cpu().numpy(), expected)
