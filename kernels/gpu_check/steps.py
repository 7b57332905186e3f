"""The steps of gpu-check: what each runs, what it needs, and what it leaves behind.

Each is a command of its own, and needs nothing of the others but the files that it names.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SECONDS = 480
PRECISIONS = ("fp16", "tf32", "fp32")
TORCH_WAYS = ("torch-eager", "torch-channels-last", "torch-compile")
ENGINE_MODULES = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: As `--only` takes it.
        command: What is run; what it prints is what it measured, as lines of JSON.
        files: Files and folders that must exist by then.
        made: Files that it leaves for later steps.
        modules: Python packages that must be installed; without one the step is skipped.
        tools: Programs that must be on the PATH; likewise.
    """

    name: str
    command: tuple[str, ...]
    files: tuple[Path, ...] = ()
    made: tuple[Path, ...] = ()
    modules: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[Path, ...]:
        """`files`, and the script that is run."""
        return (*(Path(part) for part in self.command if part.startswith(str(HERE))), *self.files)

    def missing_here(self) -> list[str]:
        """Packages and programs that this machine lacks."""
        return [name for name in self.modules if not _is_installed(name)] + [
            name for name in self.tools if which(name) is None
        ]


def all_steps(output: Path, bundle: Path | None, wheels: Path | None) -> list[Step]:
    """The steps in their order.

    Args:
        output: Folder that everything is written to.
        bundle: A bundle with float32 and fp16 graphs; None exports one with generated weights.
        wheels: Folder of wheels to install for the run; None installs nothing.
    """
    python = sys.executable if wheels is None else str(environment(output) / "bin" / "python")
    encoder = bundle or output / "bundle"
    graphs = {"fp16": encoder / "encode.fp16.onnx", "fp32": encoder / "encode.fp32.onnx"}
    graphs["tf32"] = graphs["fp32"]
    reference = output / "reference.npz"
    build = output / "cmake"
    libraries = {
        name: build / "lib" / f"libmagvit_{name}.so" for name in ("operators", "cuda", "plugins")
    }
    checker = build / "kernels" / "gpu_check"

    def script(name: str, *arguments: object) -> tuple[str, ...]:
        return (python, str(HERE / name), *map(str, arguments))

    def measure(way: str, precision: str, *modules: str, library: Path | None = None) -> Step:
        return Step(
            f"{way}-{precision}",
            script("measure.py", way, precision, encoder, reference),
            files=(graphs[precision], reference) + (() if library is None else (library,)),
            modules=modules,
        )

    steps = []
    if wheels is not None:
        install = (sys.executable, str(HERE / "install_wheels.py"), str(wheels))
        steps.append(Step("wheels", (*install, str(environment(output))), files=(wheels,)))
    configure = ["cmake", "-S", str(ROOT), "-B", str(build), "-DBUILD_TESTING=OFF"]
    # For the GPU at hand only, which is a sixth of the compiler's work.
    configure += ["-DCMAKE_CUDA_ARCHITECTURES=native", "-DMAGVIT_DOWNLOAD_HEADERS=ON"]
    steps += [
        Step(
            "build",
            script("build.py", *configure),
            files=(ROOT / "CMakeLists.txt", ROOT / "kernels" / "CMakeLists.txt"),
            made=(checker, *libraries.values()),
            tools=("cmake", "nvcc"),
        ),
        Step("kernels", (str(checker),), files=(checker,)),
        Step(
            "operators",
            script("check_operators.py"),
            files=(libraries["operators"], libraries["cuda"]),
            modules=("cuda.bindings",),
        ),
    ]
    if bundle is None:
        steps.append(
            Step(
                "bundle",
                script("prepare.py", "bundle", encoder),
                made=tuple(graphs.values()),
                modules=("torch", "onnx", "onnxscript"),
            )
        )
    steps.append(
        Step(
            "reference",
            script("prepare.py", "reference", encoder, reference),
            files=(graphs["fp32"], libraries["operators"]),
            made=(reference,),
        )
    )
    for precision in PRECISIONS:
        native = ("cuda.bindings", "cudnn")
        steps.append(measure("native", precision, *native, library=libraries["cuda"]))
        steps += [measure(way, precision, "torch") for way in TORCH_WAYS]
        steps.append(measure("onnxruntime", precision, "onnxruntime"))
    for flavour, module in ENGINE_MODULES.items():
        needs = (module, "onnx", "cuda.bindings")
        steps.append(
            Step(
                f"{flavour}-build",
                script("prepare.py", "engine", encoder, flavour),
                files=(graphs["fp16"], libraries["plugins"]),
                modules=(*needs, "polygraphy"),
            )
        )
        steps.append(measure(flavour, "fp16", *needs, library=libraries["plugins"]))
    return steps


def environment(output: Path) -> Path:
    """The virtual environment that wheels of a folder go to."""
    return output / "venv"


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # Of a package that the module would lie in.
        return False
