"""The steps of gpu-check: the command, needs, output files and budget of each.

Each is a separate command, and needs from the others only the files that it names. The first set
has the most important steps and fits into ten minutes of a GPU. The second set has all others.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# The budgets of the first set must not add up to more than this.
FIRST_SET_SECONDS = 540

# Packages that the scripts import, directly or through magvit_runtime and magvit_export.
RUNTIME = ("numpy", "msgspec")
EXPORT = (*RUNTIME, "torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "huggingface_hub")
CUDA = (*RUNTIME, "cuda.bindings")
ENGINE_MODULES = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
MODULES = {
    "native": (*CUDA, "cudnn"),
    "torch-compile": EXPORT,
    "torch-eager": EXPORT,
    "torch-channels-last": EXPORT,
    "onnxruntime": (*RUNTIME, "onnxruntime"),
    **{flavour: (*CUDA, module) for flavour, module in ENGINE_MODULES.items()},
}

# Seconds to measure one way to run the encoder. Most go to finding the fastest plans of cuDNN, or
# to compiling, for two batch sizes each. Without tensor cores plans take longer to time.
SECONDS = {
    "native": 195,
    "native-fp32": 400,
    "torch-compile": 155,
    "torch-eager": 75,
    "torch-channels-last": 75,
    "onnxruntime": 120,
    "tensorrt-rtx": 60,
    "tensorrt": 60,
}


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: Its name for `--only`.
        command: The command; it prints its measurements as lines of JSON.
        seconds: Its budget. It is killed after that time plus the time that earlier steps left.
        files: Files and folders that must exist before it runs.
        made: Files and folders that it leaves for later steps.
        modules: Python modules that must be there.
        tools: Programs that must be on the PATH.
    """

    name: str
    command: tuple[str, ...]
    seconds: int
    files: tuple[Path, ...] = ()
    made: tuple[Path, ...] = ()
    modules: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[Path, ...]:
        """`files`, and the script that is run."""
        return (*(Path(part) for part in self.command if part.startswith(str(HERE))), *self.files)


@dataclass(frozen=True)
class Workplace:
    """Where a run of gpu-check keeps its files.

    Attributes:
        output: Folder that everything is written to.
        given_bundle: A bundle with float32 and fp16 graphs; None exports one with generated
            weights.
        wheels: Folder of wheels to install for the run; None installs nothing.
    """

    output: Path
    given_bundle: Path | None = None
    wheels: Path | None = None

    @property
    def packages(self) -> Path:
        """Where the wheels are installed; other environments don't see it."""
        return self.output / "packages"

    @property
    def bundle(self) -> Path:
        """The bundle that is measured."""
        return self.given_bundle or self.output / "bundle"

    @property
    def reference(self) -> Path:
        """Clips, and the latents that all ways are compared with."""
        return self.output / "reference.npz"

    @property
    def build(self) -> Path:
        """CMake's build folder."""
        return self.output / "cmake"

    def graph(self, precision: str) -> Path:
        """The graph of a precision; TF32's is that of float32."""
        return self.bundle / f"encode.{'fp16' if precision == 'fp16' else 'fp32'}.onnx"

    def library(self, name: str) -> Path:
        """A native library by the end of its name."""
        return self.build / "lib" / f"libmagvit_{name}.so"

    @property
    def checker(self) -> Path:
        """The program that checks the kernels of the TensorRT plugins."""
        return self.build / "kernels" / "gpu_check"


def first_set(place: Workplace) -> list[Step]:
    """Native fp16 and torch.compile, with all that they need, in the order in which they run."""
    steps = [] if place.wheels is None else [_install(place, place.wheels)]
    steps.append(_build("build", 50, place, (place.library("operators"), place.library("cuda"))))
    if place.given_bundle is None:
        steps.append(
            _script(
                "bundle",
                75,
                place,
                ("prepare.py", "bundle", place.bundle),
                made=(place.graph("fp32"), place.graph("fp16")),
                modules=EXPORT,
            )
        )
    steps.append(
        _script(
            "reference",
            40,
            place,
            ("prepare.py", "reference", place.bundle, place.reference),
            files=(place.graph("fp32"), place.library("operators")),
            made=(place.reference,),
            modules=RUNTIME,
        )
    )
    steps += [_measure(way, "fp16", place) for way in ("native", "torch-compile")]
    return steps


def second_set(place: Workplace) -> list[Step]:
    """Kernels and operators by themselves, the other ways and precisions, and engines."""
    steps = [
        _script(
            "native-profile",
            60,
            place,
            ("kernel_times.py", place.bundle, place.reference, place.output / "profile"),
            files=(place.graph("fp16"), place.reference, place.library("cuda")),
            modules=(*MODULES["native"], "torch"),
        ),
        _build("kernels-build", 60, place, (place.checker,)),
        Step("kernels", (str(place.checker),), 60, files=(place.checker,)),
        *(
            _script(
                name,
                60,
                place,
                (script,),
                files=(place.library("operators"), place.library("cuda")),
                modules=CUDA,
            )
            for name, script in (
                ("operators", "check_operators.py"),
                ("decoding", "check_decoding.py"),
                ("conv", "check_conv.py"),
            )
        ),
        _measure("onnxruntime", "fp16", place),
        _measure("native", "tf32", place),
        _measure("native", "fp32", place),
        _measure("torch-eager", "fp16", place),
        _measure("torch-channels-last", "fp16", place),
    ]
    steps += [
        _measure(way, precision, place)
        for precision in ("tf32", "fp32")
        for way in ("onnxruntime", "torch-compile", "torch-eager", "torch-channels-last")
    ]
    # TensorRT's headers come from kernel-lens.
    plugins = place.library("plugins")
    steps.append(_build("plugins", 60, place, (plugins,), modules=("kernel_lens",)))
    for flavour, module in ENGINE_MODULES.items():
        steps.append(
            _script(
                f"{flavour}-build",
                400,
                place,
                ("prepare.py", "engine", place.bundle, flavour),
                files=(place.graph("fp16"), plugins),
                modules=(*CUDA, "onnx", "polygraphy", module),
            )
        )
        steps.append(_measure(flavour, "fp16", place))
    return steps


def _install(place: Workplace, wheels: Path) -> Step:
    pip = (sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-compile")
    files = map(str, sorted(wheels.glob("*.whl")))
    command = (*pip, "--quiet", "--upgrade", "--target", str(place.packages), *files)
    return Step("wheels", command, 20, files=(wheels,), made=(place.packages,), modules=("pip",))


def _build(
    name: str,
    seconds: int,
    place: Workplace,
    made: tuple[Path, ...],
    modules: tuple[str, ...] = (),
) -> Step:
    """A step that compiles targets, which are named as their files are."""
    targets = (path.stem.removeprefix("lib") for path in made)
    return _script(
        name,
        seconds,
        place,
        ("build.py", place.build, *targets),
        files=(ROOT / "CMakeLists.txt", ROOT / "kernels" / "CMakeLists.txt"),
        made=made,
        modules=modules,
        tools=("cmake", "nvcc"),
    )


def _measure(way: str, precision: str, place: Workplace) -> Step:
    """A step that times and compares one way to run the encoder."""
    libraries = {"native": "cuda", **dict.fromkeys(ENGINE_MODULES, "plugins")}
    return _script(
        f"{way}-{precision}",
        SECONDS.get(f"{way}-{precision}", SECONDS[way]),
        place,
        ("measure.py", way, precision, place.bundle, place.reference),
        files=(
            place.graph(precision),
            place.reference,
            *(place.library(library) for key, library in libraries.items() if key == way),
        ),
        modules=MODULES[way],
    )


def _script(
    name: str,
    seconds: int,
    place: Workplace,
    script: tuple[object, ...],
    *,
    files: tuple[Path, ...] = (),
    made: tuple[Path, ...] = (),
    modules: tuple[str, ...] = (),
    tools: tuple[str, ...] = (),
) -> Step:
    """A step that runs a script of this folder with arguments."""
    file, *arguments = script
    command = (sys.executable, str(HERE / str(file)), *map(str, arguments))
    if place.wheels is not None:
        files = (*files, place.packages)
    return Step(name, command, seconds, files, made, modules, tools)
