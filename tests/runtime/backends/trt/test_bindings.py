"""What sessions call of TensorRT, and the stand-in stands in for, is there in the real bindings.

The dispatch bindings are TensorRT's own, without its builder; MAGVIT_TENSORRT_SITES names folders
of them (tests/kernels/test_registration.py).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runtime import stand_in_gpu

# Of each class of the stand-in, the class of the bindings.
CLASSES = {
    stand_in_gpu.Engine: "ICudaEngine",
    stand_in_gpu.Context: "IExecutionContext",
    stand_in_gpu.Refitter: "Refitter",
    stand_in_gpu.Weights: "Weights",
}
# Classes that the stand-in makes of plain namespaces, and what sessions and builds use of them.
MORE = {
    "Runtime": ["deserialize_cuda_engine", "engine_host_code_allowed"],
    "ISerializationConfig": ["set_flag"],
    "SerializationFlag": ["INCLUDE_REFIT"],
    "BuilderFlag": ["EDITABLE_TIMING_CACHE", "ERROR_ON_TIMING_CACHE_MISS", "REFIT", "STRIP_PLAN"],
    "ICudaEngine": ["refittable", "num_optimization_profiles", "device_memory_size_v2"],
}
OF_THE_STAND_IN = {"count", "index", "total"}  # A named tuple's, and what it keeps of weights.
SITES = list(filter(None, os.environ.get("MAGVIT_TENSORRT_SITES", "").split(os.pathsep)))
CASES = [("", "tensorrt_rtx")] + [(site, "tensorrt_dispatch_bindings") for site in SITES]

PROBE = """
import importlib, json, sys
trt = importlib.import_module(sys.argv[1])
needed = json.loads(sys.argv[2])
missing = [f"{kind}.{name}" for kind, names in needed.items() for name in names
           if not hasattr(getattr(trt, kind, None), name)]
print(json.dumps(missing))
"""


def needed(flavour: str) -> dict[str, list[str]]:
    names = {kind: list(used) for kind, used in MORE.items()}
    for stand_in, kind in CLASSES.items():
        public = {name for name in vars(stand_in) if not name.startswith("_")}
        names.setdefault(kind, []).extend(public - OF_THE_STAND_IN)
    if flavour == "tensorrt_rtx":
        names["IRuntimeConfig"] = ["create_runtime_cache", "set_runtime_cache"]
        names["IRuntimeConfig"] += ["cuda_graph_strategy"]
    return names


@pytest.mark.parametrize(("site", "module"), CASES)
def test_the_stand_in_has_only_what_tensorrt_has(site: str, module: str) -> None:
    if not site and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install tensorrt-rtx-cu13")
    if site and not (Path(site) / module).is_dir():
        pytest.skip(f"{site} holds no {module}")
    names = needed(module)
    assert {"get_missing_weights", "set_named_weights"} <= set(names["Refitter"])
    assert "set_optimization_profile_async" in names["IExecutionContext"]
    path = os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH", "")]))
    probe = subprocess.run(
        [sys.executable, "-c", PROBE, module, json.dumps(names)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(probe.stdout.splitlines()[-1]) == []
