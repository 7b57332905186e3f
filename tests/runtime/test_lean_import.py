"""The runtime starts fast and without the export side, each time in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import magvit_runtime
from magvit_runtime.native_libraries.lookup import LIBRARY_DIR_VARIABLE

SOURCES = Path(magvit_runtime.__file__).parent
HEAVY = {
    *("torch", "onnx", "onnxruntime", "pandas", "pyarrow", "PIL", "av", "scipy"),
    *("huggingface_hub", "safetensors", "tensorrt", "cyclopts", "rich", "magvit_export"),
    *("jinja2", "opentelemetry", "plotly", "ray"),
}

IMPORT = """
import json, sys, time
import numpy
start = time.thread_time()
import magvit_runtime
seconds = time.thread_time() - start
packages = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps({"seconds": seconds, "packages": packages}))
"""


def run(script: str, *arguments: str) -> str:
    process = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.alone
def test_the_import_takes_no_heavy_package_and_little_time() -> None:
    """Measures the thread's own processor time, which other work on the machine doesn't change.

    NumPy's import comes first. It takes longer than ours, and starts threads that spin.
    """
    runs = [json.loads(run(IMPORT)) for _ in range(5)]
    assert HEAVY.isdisjoint(runs[0]["packages"])
    assert min(item["seconds"] for item in runs) < 0.15


def test_the_runtimes_sources_dont_name_the_export_side() -> None:
    sources = list(SOURCES.rglob("*.py"))
    assert len(sources) > 20
    naming = [path for path in sources if "magvit_export" in path.read_text(encoding="utf-8")]
    assert naming == []


HIDE_PACKAGES = """
import sys
from importlib.machinery import PathFinder

class Without:
    \"\"\"Finds what is installed but for these packages, as if they weren't.\"\"\"

    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.split(".")[0] in HIDDEN else PathFinder.find_spec(name, path, target)

    find_distributions = PathFinder.find_distributions

HIDDEN = set(sys.argv[1].split(","))
sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""


def test_without_a_backend_it_says_what_to_install(tiny_bundle: Path, tmp_path: Path) -> None:
    script = """
from magvit_runtime import BackendError, Tokenizer
try:
    Tokenizer.open(sys.argv[2])
except BackendError as error:
    print(error)
"""
    without_library = f"import os\nos.environ['{LIBRARY_DIR_VARIABLE}'] = '{tmp_path}'\n"
    message = run(without_library + HIDE_PACKAGES + script, "onnxruntime", str(tiny_bundle))
    assert "native fp32 can't be opened: " in message
    assert message.strip().endswith(
        "this graph needs ONNX Runtime, which isn't installed. "
        "Fix: pip install 'magvit-runtime[cpu]' (or [cuda])"
    )


TOKENIZE = """
import numpy as np
from magvit_runtime import Tokenizer
with Tokenizer.open(sys.argv[2]) as tokenizer:
    print(tokenizer(np.zeros((1, 1, 8, 8, 3), np.uint8)).shape)
"""


def test_tokens_need_no_package_of_the_export_side(tiny_bundle: Path) -> None:
    hidden = "torch,onnx,onnxscript,onnx_ir,huggingface_hub,safetensors,magvit_export"
    assert run(HIDE_PACKAGES + TOKENIZE, hidden, str(tiny_bundle)).strip() == "(1, 1, 4, 4)"


def test_the_native_backend_needs_no_onnxruntime(tiny_bundle: Path) -> None:
    assert run(HIDE_PACKAGES + TOKENIZE, "onnxruntime", str(tiny_bundle)).strip() == "(1, 1, 4, 4)"
