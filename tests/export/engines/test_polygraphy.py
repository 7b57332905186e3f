"""Every line of docs/engines.md's section on Polygraphy; the scripts of examples/polygraphy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from magvit_runtime.bundle.reading import open_bundle
from magvit_runtime.native_libraries.lookup import plugin_library
from magvit_runtime.quantizers.lfq import bits_to_ids

REPOSITORY = Path(__file__).parents[3]
SCRIPTS = REPOSITORY / "examples" / "polygraphy"
GUIDE = (REPOSITORY / "docs" / "engines.md").read_text(encoding="utf-8")
# Two levels, one block each, and one in the middle: two norms a block, the last one, and LFQ.
PLUGIN_LAYERS = 8
PLANTED = "encoder.down.1.block.0.conv2.conv_1.weight"


def commands() -> tuple[str, list[str]]:
    """The section's first block, and the commands of the others; on clips that are small."""
    section = GUIDE.partition("\n## Polygraphy\n")[2].partition("\n## ")[0]
    small = section.replace("17,128,128", "5,32,32").replace(
        "trajectories.csv", "trajectories.csv --frames 5 --height 32 --width 32"
    )
    setup, *blocks = re.findall(r"```sh\n(.*?)```", small, re.S)
    lines = "".join(blocks).replace("\\\n", "").splitlines()
    return setup, [" ".join(line.split()) for line in lines if not line.startswith("#")]


@pytest.fixture
def folder(engine_bundle: Path, tmp_path: Path) -> Path:
    engine_bundle.rename(tmp_path / "model")
    shutil.copytree(SCRIPTS, tmp_path / "examples" / "polygraphy")
    rows = [f"{path},{x},{x * path % 7}" for path in range(5) for x in range(12)]
    (tmp_path / "trajectories.csv").write_text("\n".join(["id,x,y", *rows]), encoding="utf-8")
    return tmp_path


def shell(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    scripts = Path(sys.executable).parent
    return subprocess.run(
        ["sh", "-ec", text],
        cwd=folder,
        env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13",
)
@pytest.mark.skipif(
    plugin_library() is None,
    reason="libmagvit_plugins.so was not built: it needs nvcc and TensorRT's headers",
)
def test_every_line_works_with_our_plugins(folder: Path) -> None:
    setup, lines = commands()
    result = shell(folder, setup)
    assert result.returncode == 0, result.stdout
    exports = "\n".join(line for line in setup.splitlines() if line.startswith("export "))

    def run(start: str) -> tuple[int, str]:
        (line,) = (line for line in lines if line.startswith(start))
        lines.remove(line)
        # Verbose, so that TensorRT says which plugins it made.
        line = re.sub(r"^(polygraphy (?:run|convert|debug build)) ", r"\1 -vv ", line)
        result = shell(folder, f"{exports}\n{line}")
        return result.returncode, result.stdout

    def passes(start: str) -> str:
        code, text = run(start)
        assert code == 0, text
        return text

    def needs_gpu(start: str) -> str:
        """Without a GPU, nothing but the missing driver may end it."""
        code, text = run(start)
        if shutil.which("nvidia-smi") is None:
            assert code == 1, text
            assert "CUDA driver version is insufficient" in text
        return text

    passes("polygraphy run model/encode.fp32.onnx --onnxrt")
    compared = passes("polygraphy run model/encode.fp16.onnx --onnxrt")
    assert "0 bits outside the margin" in compared
    assert "Passed: 2/2 iterations" in compared
    built = passes("polygraphy convert $SCRIPTS/load_network.py -o encoder.plan")
    assert len(re.findall(r"PLUGIN_V3 .*(?:GroupNormSiLU|LFQ)", built)) == PLUGIN_LAYERS
    assert (folder / "encoder.plan").stat().st_size > 0
    needs_gpu("python $SCRIPTS/with_plugins.py run encoder.plan")
    assert made_plugins(needs_gpu("polygraphy run $SCRIPTS/load_network.py")) == PLUGIN_LAYERS

    assert "[Op: GroupNormSiLU]" in passes("polygraphy inspect model model/encode.fp16.onnx")
    network = passes("polygraphy inspect model $SCRIPTS/load_network.py")
    assert network.count("[Op: LayerType.PLUGIN_V3]") == PLUGIN_LAYERS
    assert "ids [dtype=int32, shape=(4, 5, 16, 16)]" in passes("polygraphy inspect data")
    needs_gpu("python $SCRIPTS/with_plugins.py inspect model encoder.plan")

    debugged = passes("polygraphy debug build")
    assert made_plugins(debugged) == PLUGIN_LAYERS
    assert "Finished 2 iteration(s)" in debugged
    plant_an_infinity(folder / "model" / "encode.fp16.onnx")
    passes("polygraphy debug reduce")
    reduced = onnx.load(folder / "reduced.onnx")
    assert PLANTED in {tensor.name for tensor in reduced.graph.initializer}
    assert len(reduced.graph.node) <= 3
    assert lines == []


def made_plugins(log: str) -> int:
    return len(re.findall(r"Successfully created plugin: (?:GroupNormSiLU|LFQ)", log))


def plant_an_infinity(path: Path) -> None:
    """In one of the weights, which from then on are in the graph's own file."""
    model = onnx.load(path)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == PLANTED)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] = np.inf
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, PLANTED))
    onnx.save(model, path)


def test_the_wrapper_registers_the_plugins_for_files(folder: Path) -> None:
    """Polygraphy reads this graph by itself; only the wrapper can have registered them."""
    if find_spec("tensorrt_rtx") is None or plugin_library() is None:
        pytest.skip("needs TensorRT-RTX and libmagvit_plugins.so")
    setup, _ = commands()
    show = "inspect model model/encode.fp16.onnx --display-as trt --show layers"
    result = shell(folder, f"{setup}\npython $SCRIPTS/with_plugins.py {show}")
    assert result.returncode == 0, result.stdout
    assert result.stdout.count("[Op: LayerType.PLUGIN_V3]") == PLUGIN_LAYERS


def test_tokens_are_compared_by_the_rule_of_verify(
    engine_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    compare_outputs = import_module("compare_tokens").compare_outputs
    graph = open_bundle(engine_bundle).graphs("encode")["fp16"]
    monkeypatch.setenv("MAGVIT_GRAPH", str(engine_bundle / graph.file))
    reference = np.random.default_rng(0).normal(size=(2, 18, 3, 4, 4)).astype(np.float32)

    def outputs(latents: np.ndarray) -> dict[str, np.ndarray]:
        return {"latents": latents, "ids": bits_to_ids(np.moveaxis(latents > 0, 1, -1))}

    def passed(ours: dict[str, np.ndarray]) -> list[bool]:
        return list(compare_outputs(ours, outputs(reference)).values())

    assert passed(outputs(reference + np.float32(1e-3))) == [True, True]
    assert passed(outputs(reference + np.float32(0.1))) == [False, False]
    turned = reference.copy()
    turned[0, 3, 0, 0, 0] *= -1
    assert passed(outputs(turned)) == [False, False]
    wrong_id = outputs(reference)
    wrong_id["ids"][0, 0, 0, 0] += 1
    assert passed(wrong_id) == [False, False]
