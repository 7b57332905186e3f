"""The plugin library in genuine TensorRT registries, which need no GPU to load it.

Each TensorRT runs in a separate process, so that two of them never meet and a crash is one failed
test. The tests use the versions that this interpreter can import and those in the folders named by
MAGVIT_TENSORRT_SITES (separated as in PATH), so that one run can test several versions:

    pip install --target trt-10 tensorrt-dispatch-cu13-{libs,bindings}==10.16.1.11
    MAGVIT_TENSORRT_SITES=trt-10:trt-11 pytest tests/kernels/test_registration.py
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from magvit_runtime.native_libraries.lookup import PLUGIN_INTERFACE, PLUGIN_OPERATORS

# Import names of the flavours, and how to get them.
PACKAGES = {
    "tensorrt": "tensorrt",
    "tensorrt_lean_bindings": "tensorrt-lean-cu13-bindings",
    "tensorrt_dispatch_bindings": "tensorrt-dispatch-cu13-libs tensorrt-dispatch-cu13-bindings",
    "tensorrt_rtx": "tensorrt-rtx-cu13",
}
SITES = list(filter(None, os.environ.get("MAGVIT_TENSORRT_SITES", "").split(os.pathsep)))
CASES = [("", module) for module in PACKAGES] + [
    (site, module) for site in SITES for module in PACKAGES if (Path(site) / module).is_dir()
]

PROBE = """
import importlib, json, sys
import numpy as np

trt = importlib.import_module(sys.argv[1])
registry = trt.get_plugin_registry()
loaded = registry.load_library(sys.argv[2]) is not None
creators = [[c.name, c.plugin_version, c.plugin_namespace] for c in registry.all_creators]

def create(name, phase, **fields):
    creator = registry.get_creator(name, "1", "magvit")
    types = {"i": trt.PluginFieldType.INT32, "f": trt.PluginFieldType.FLOAT32}
    made = creator.create_plugin("layer", trt.PluginFieldCollection([
        trt.PluginField(key, value, types[value.dtype.kind]) for key, value in fields.items()
    ]), phase)
    return made is not None

groups, epsilon = np.array([32], np.int32), np.array([1e-6], np.float32)
print(json.dumps({
    "version": trt.__version__,
    "loaded": loaded,
    "creators": [c for c in creators if c[2] == "magvit"],
    "created": [
        create(name, phase, num_groups=groups, epsilon=epsilon)
        for name in ("GroupNorm", "GroupNormSiLU")
        for phase in (trt.TensorRTPhase.BUILD, trt.TensorRTPhase.RUNTIME)
    ] + [create(name, trt.TensorRTPhase.RUNTIME) for name in ("CodebookArgmax", "LFQ")],
    "misspelt": create("GroupNorm", trt.TensorRTPhase.BUILD, num_grups=groups),
}))
"""


def test_named_folders_hold_tensorrt() -> None:
    for site in SITES:
        assert any(site == tested for tested, _ in CASES), f"none of {list(PACKAGES)} in {site}"


@pytest.mark.parametrize(("site", "module"), CASES)
def test_registry_takes_the_plugins(site: str, module: str, plugin_library: Path) -> None:
    if not site and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install {PACKAGES[module]}")
    path = os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH", "")]))
    probe = subprocess.run(
        [sys.executable, "-c", PROBE, module, str(plugin_library)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert probe.returncode == 0, probe.stderr
    found = json.loads(probe.stdout.splitlines()[-1])
    assert found["loaded"]
    assert sorted(found["creators"]) == [
        [name, str(PLUGIN_INTERFACE), "magvit"] for name in sorted(PLUGIN_OPERATORS)
    ]
    assert all(found["created"])
    assert not found["misspelt"]
    assert "field num_grups is not known" in probe.stderr + probe.stdout


OPEN = """
import ctypes, importlib, json, os, sys

ctypes.CDLL(sys.argv[2])  # Too early: there is no TensorRT.
trt = importlib.import_module(sys.argv[1])
registry = trt.get_plugin_registry()
none = [c.name for c in registry.all_creators if c.plugin_namespace == "magvit"]
# As Triton's TensorRT backend opens plugin libraries; a copy, since the first one is open.
ctypes.CDLL(sys.argv[3], mode=os.RTLD_NOW | os.RTLD_LOCAL)
print(json.dumps({
    "major": int(trt.__version__.split(".")[0]),
    "before": none,
    "after": [c.name for c in registry.all_creators if c.plugin_namespace == "magvit"],
}))
"""


@pytest.mark.parametrize(("site", "module"), CASES)
def test_opening_a_library_is_enough(
    site: str, module: str, plugin_library: Path, plugin_autoload_library: Path, tmp_path: Path
) -> None:
    if module == "tensorrt_rtx":
        pytest.skip("what only opens plugin libraries, as Triton, has no TensorRT-RTX")
    if not site and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install {PACKAGES[module]}")
    for library in (plugin_library, plugin_autoload_library):
        shutil.copy(library, tmp_path)
    path = os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH", "")]))
    early, late = plugin_autoload_library, tmp_path / plugin_autoload_library.name
    probe = subprocess.run(
        [sys.executable, "-c", OPEN, module, str(early), str(late)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert probe.returncode == 0, probe.stderr
    found = json.loads(probe.stdout.splitlines()[-1])
    assert "TensorRT isn't in this process yet" in probe.stderr
    assert found["before"] == []
    if f"found TensorRT {found['major']}, expected TensorRT" in probe.stderr:
        assert found["after"] == []  # Of another major than the headers.
    else:
        assert sorted(found["after"]) == sorted(PLUGIN_OPERATORS)
