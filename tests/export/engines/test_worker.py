"""The builder's configuration that Polygraphy makes from an engine's key, read by TensorRT-RTX."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
from known_profiles import profile_of

from magvit_export.engines.protocol import BuildRequest
from magvit_runtime.bundle.engine_records import EngineKey
from magvit_runtime.types import Flavour

pytestmark = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13",
)

OPTIONS: dict[str, str | int | bool | None] = {
    "hardware_compat": "none",
    "version_compatible": False,
    "strip_weights": False,
    "refit": False,
    "workspace": None,
    "opt_level": None,
    "tf32": False,
}
PORTABLE = ("8.6", "8.9", "12.0")

# In a separate process, because Polygraphy chooses one flavour when it is imported.
CONFIGURE = """
import json, sys
import msgspec
import tensorrt_rtx as trt
from magvit_export.engines.protocol import BuildRequest
from magvit_export.engines.worker import make_config
from polygraphy.backend.trt import create_network

request = msgspec.json.decode(sys.argv[1], type=BuildRequest)
builder, network = create_network()
network.add_input("frames", trt.uint8, (-1, -1, -1, -1, 3))
config = make_config(trt, request, None)(builder, network)
flags = [flag.name for flag in trt.BuilderFlag.__members__.values() if config.get_flag(flag)]
targets = range(config.num_compute_capabilities)
print(json.dumps({
    "flags": flags,
    "targets": [config.get_compute_capability(i).name for i in targets],
    "workspace": config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE),
    "opt_level": config.builder_optimization_level,
    "verbosity": config.profiling_verbosity.name,
    "profiles": config.num_optimization_profiles,
}))
"""


def configure(
    *,
    flavour: Flavour = "tensorrt-rtx",
    sms: tuple[str, ...] = PORTABLE,
    batches: Sequence[int] = (4,),
    timing_cache: str | None = None,
    repeatable: bool = False,
    **options: str | int | bool | None,
) -> dict:
    key = EngineKey(
        role="encode",
        flavour=flavour,
        version="1.7",
        cuda="13",
        sms=sms,
        gpu=None,
        precision="fp32",
        profiles=tuple(profile_of(1, 1, most, (5, 32, 32, 3)) for most in batches),
        onnx_sha256="a" * 64,
        plugin_interface=1,
        options=OPTIONS | options,
    )
    request = msgspec.json.encode(
        BuildRequest(key, "graph", "plugins", {}, "plan", timing_cache, repeatable)
    )
    result = subprocess.run(
        [sys.executable, "-c", CONFIGURE, request],
        env={**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


# TensorRT-RTX also takes the configuration of tensorrt; tensorrt itself needs a GPU.
@pytest.mark.parametrize("flavour", ["tensorrt-rtx", "tensorrt"])
def test_tf32_is_off_unless_asked_for(flavour: Flavour) -> None:
    assert "TF32" not in configure(flavour=flavour)["flags"]
    assert "TF32" in configure(flavour=flavour, tf32=True)["flags"]


def test_defaults() -> None:
    made = configure()
    assert set(made["flags"]) <= {"STRONGLY_TYPED"}
    assert made["targets"] == []
    assert made["verbosity"] == "DETAILED"
    assert made["profiles"] == 1


def test_several_profiles() -> None:
    assert configure(batches=(1, 4, 8))["profiles"] == 3


def test_kernels_chosen_are_kept_and_taken_again(tmp_path: Path) -> None:
    """TensorRT-RTX has tensorrt's flags; its own builds keep no timings."""
    cache = str(tmp_path / "timing.cache")
    flags = {"EDITABLE_TIMING_CACHE", "ERROR_ON_TIMING_CACHE_MISS"}
    assert not flags & set(configure(flavour="tensorrt")["flags"])
    kept = configure(flavour="tensorrt", timing_cache=cache)["flags"]
    assert flags & set(kept) == {"EDITABLE_TIMING_CACHE"}
    again = configure(flavour="tensorrt", timing_cache=cache, repeatable=True)["flags"]
    assert flags <= set(again)


def test_options_reach_tensorrt() -> None:
    made = configure(
        sms=("8.9",),
        strip_weights=True,
        refit=True,
        version_compatible=True,
        workspace=500,
        opt_level=1,
    )
    assert {"STRIP_PLAN", "REFIT", "VERSION_COMPATIBLE"} <= set(made["flags"])
    assert made["targets"] == ["SM89"]
    assert made["workspace"] == 500 * 2**20
    assert made["opt_level"] == 1
