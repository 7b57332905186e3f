"""Other machines than this one, made only by an environment: programs, packages, libraries.

A Python that is started with `environment(...)` finds the GPUs, packages and native libraries of
that machine and no others. None of our code is patched, so such a process does the same as on such
a machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.hidden_packages import hide

TESTS = Path(__file__).parents[1]

# Modules that a machine has only if its description says so, by the distribution's name.
OPTIONAL_PACKAGES = {
    "cuda-bindings": "cuda",
    "nvidia-cudnn-frontend": "cudnn",
    "onnxruntime": "onnxruntime",
    "onnxruntime-gpu": "onnxruntime",
    "tensorrt-cu13": "tensorrt",
    "tensorrt-rtx-cu13": "tensorrt_rtx",
    "torch": "torch",
}


@dataclass(frozen=True)
class StandInGpu:
    """A GPU, as the driver's tool and CUDA report it."""

    name: str
    sm: str
    uuid: str


@dataclass(frozen=True)
class StandInMachine:
    """A machine.

    Attributes:
        gpus: Its GPUs in the driver's order; None where there is no driver.
        cuda_order: Indices of `gpus` in CUDA's order; the driver's where it is empty.
        packages: Versions of those of `OPTIONAL_PACKAGES` that are installed. "onnxruntime" is
            the real one; all others are stand-ins.
        libraries: Our native libraries. libmagvit_operators.so is the real one; nothing can load
            the others.
        variables: More of its environment.
    """

    gpus: tuple[StandInGpu, ...] | None = None
    cuda_order: tuple[int, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    libraries: tuple[str, ...] = ("libmagvit_operators.so",)
    variables: Mapping[str, str] = field(default_factory=dict)


def environment(machine: StandInMachine, operators: Path, folder: Path) -> dict[str, str]:
    """Builds a machine in an empty folder, and returns the environment of its processes.

    Args:
        machine: What it is.
        operators: The real libmagvit_operators.so.
        folder: Where its programs, packages and libraries go. Its PATH is one folder, in which a
            file `asked` has a line for every time that the driver's tool was run.
    """
    programs, packages, libraries = (folder / name for name in ("bin", "packages", "lib"))
    for path in (programs, packages, libraries):
        path.mkdir(parents=True)
    if machine.gpus is not None:
        _write_driver_tool(programs, machine.gpus)
    _write_packages(packages, machine)
    for name in machine.libraries:
        if name == operators.name:
            (libraries / name).symlink_to(operators)
        else:
            (libraries / name).write_bytes(b"no library -arch sm_89 -arch sm_90")
    inherited = os.environ.get("PYTHONPATH", "")
    paths = [str(packages), str(TESTS), *filter(None, [inherited])]
    return {
        "HOME": str(folder),
        "PATH": str(programs),
        "PYTHONPATH": os.pathsep.join(paths),
        "MAGVIT_LIBRARY_DIR": str(libraries),
        **machine.variables,
    }


# It answers whatever fields it is asked for. Nothing but the shell is on the machine's PATH.
_DRIVER_TOOL = """#!/bin/sh
echo asked >> "${0%/*}/asked"
for argument; do
    case $argument in --query-gpu=*) fields=${argument#--query-gpu=} ;; esac
done
IFS=,
gpu() {
    line=
    for field in $fields; do
        case $field in
            index) value=$1 ;;
            name) value=$2 ;;
            compute_cap) value=$3 ;;
            uuid) value=$4 ;;
            driver_version) value=580.159 ;;
            memory.total) value=24000 ;;
            memory.free) value=23000 ;;
            *) value='[N/A]' ;;
        esac
        line="$line${line:+, }$value"
    done
    echo "$line"
}
"""


def _write_driver_tool(folder: Path, gpus: tuple[StandInGpu, ...]) -> None:
    calls = [
        f"gpu {index} '{gpu.name}' {gpu.sm} {gpu.uuid}\n" for index, gpu in enumerate(gpus)
    ] or ["echo 'No devices were found'\nexit 9\n"]
    tool = folder / "nvidia-smi"
    tool.write_text(_DRIVER_TOOL + "".join(calls))
    tool.chmod(0o755)


_STAND_INS = {
    "cuda-bindings": {
        "cuda/bindings/__init__.py": "",
        "cuda/bindings/driver.py": "cuuint64_t = int\n",
        "cuda/bindings/runtime.py": """
import sys
from types import SimpleNamespace

from runtime import stand_in_gpu

GPUS = {gpus!r}


class Cuda(stand_in_gpu.Cuda):
    def cudaGetDeviceCount(self):
        return stand_in_gpu.OK, len(GPUS)

    def cudaDriverGetVersion(self):
        return stand_in_gpu.OK, 13000 if GPUS else 0

    def cudaGetDeviceProperties(self, ordinal):
        name, sm, uuid = GPUS[ordinal]
        major, minor = sm.split(".")
        return stand_in_gpu.OK, SimpleNamespace(
            name=name.encode(),
            major=int(major),
            minor=int(minor),
            uuid=SimpleNamespace(bytes=bytes.fromhex(uuid.removeprefix("GPU-").replace("-", ""))),
        )


sys.modules[__name__] = Cuda()
""",
    },
    "nvidia-cudnn-frontend": {
        "cudnn.py": """
def backend_version():
    raise RuntimeError("libcudnn.so.9 can't be opened")
""",
    },
    "onnxruntime-gpu": {
        "onnxruntime.py": """
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

HERE = str(Path(__file__).parent)
spec = PathFinder.find_spec(__name__, [path for path in sys.path if path != HERE])
module = sys.modules[__name__] = module_from_spec(spec)
spec.loader.exec_module(module)
module.__spec__ = __spec__  # Found where the stand-in lies, with its libraries.
module.get_available_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
""",
        "capi/libonnxruntime_providers_cuda.so": "",
    },
    **{
        f"{name}-cu13": {
            f"{module}.py": f"""
import sys

from cuda.bindings import runtime
from runtime.stand_in_gpu import TensorRt

sys.modules[__name__] = TensorRt("{module}", "{{version}}", runtime)
"""
        }
        for name, module in (("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx"))
    },
}


def _write_packages(folder: Path, machine: StandInMachine) -> None:
    present = machine.packages.keys()
    modules = set(OPTIONAL_PACKAGES.values()) - {OPTIONAL_PACKAGES[name] for name in present}
    distributions = {
        alias
        for name in OPTIONAL_PACKAGES.keys() - present
        for alias in (name, name.removesuffix("-cu13"), name.replace("-cu13", "-cu12"))
    }
    hide(folder, modules, distributions)
    gpus = machine.gpus or ()
    in_order = [gpus[index] for index in machine.cuda_order or range(len(gpus))]
    facts = [(gpu.name, gpu.sm, gpu.uuid) for gpu in in_order]
    for name, version in machine.packages.items():
        if name == "onnxruntime":
            continue
        for file, text in _STAND_INS[name].items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("{gpus!r}", repr(facts)).replace("{version}", version))
        metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
