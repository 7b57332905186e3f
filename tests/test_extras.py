"""Every extra of pyproject.toml installed alone: its commands work, or say what they need.

What the extra doesn't bring is hidden from the process, whatever is installed here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from runtime.hidden_packages import hide
from runtime.magvit_process import MAIN
from seeded_checkpoints import TINY

from magvit_export.catalog import find_model
from magvit_export.exporting import ClipSizes, export_model
from magvit_export.training.classifier_training import train_classifier
from magvit_export.training.options import TrainingOptions
from magvit_runtime import Tokenizer, open_bundle
from magvit_runtime.hardware.packages import EXTRAS_OF, missing_package
from magvit_runtime.results.token_files import read_tokens, token_writer

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = canonicalize_name(PROJECT["name"])
OPTIONAL = PROJECT["optional-dependencies"]
EXTRAS = ["", *(extra for extra in OPTIONAL if extra != "dev")]
STYLE = ("--frames", "3", "--height", "32", "--width", "32")


def brought_by(*extras: str) -> set[str]:
    """The distributions that an installation with extras has, as far as they are here."""
    optional = [text for extra in extras if extra for text in OPTIONAL[extra]]
    waiting = [Requirement(text) for text in [*PROJECT["dependencies"], *optional]]
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        need = waiting.pop()
        name = canonicalize_name(need.name)
        if (name, frozenset(need.extras)) in seen:
            continue
        seen.add((name, frozenset(need.extras)))
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        found.add(name)
        waiting += [
            deeper
            for deeper in map(Requirement, requires)
            if deeper.marker is None
            or any(deeper.marker.evaluate({"extra": one}) for one in ("", *need.extras))
        ]
    return found


def packages_of(module: str) -> list[Path]:
    spec = find_spec(module)
    assert spec is not None
    return [Path(path) for path in spec.submodule_search_locations or ()]


def environment(folder: Path, *extras: str) -> dict[str, str]:
    """The environment of an installation with extras; `folder` takes what hides the rest."""
    brought = brought_by(*extras) | {OURS}
    providers = {
        module: {canonicalize_name(name) for name in names}
        for module, names in packages_distributions().items()
    }
    hidden = {module for module, names in providers.items() if not names & brought}
    if "ray" in brought:
        # Its wheel has copies of these, and of what its agent takes.
        (ray,) = packages_of("ray")
        copies = ray / "_private" / "runtime_env" / "agent" / "thirdparty_files"
        hidden -= {"colorama", "psutil", *(path.stem for path in copies.iterdir())}
    distributions = set().union(*providers.values()) - brought
    hide(folder, hidden, distributions)
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": paths}


@pytest.fixture(
    scope="module",
    params=[pytest.param(one, marks=[pytest.mark.alone] * (one == "ray")) for one in EXTRAS],
    ids=lambda extra: extra or "none",
)
def extra(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def installed(extra: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(tmp_path_factory.mktemp("site"), extra)


def magvit(
    installed: dict[str, str], *arguments: object, cwd: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        env=installed,
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def test_help_lists_every_command(installed: dict[str, str], tmp_path: Path) -> None:
    process = magvit(installed, "--help", cwd=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    for name in PROJECT["entry-points"]["magvit.commands"]:
        assert f"│ {name} " in process.stdout


def test_doctor(installed: dict[str, str], tmp_path: Path) -> None:
    process = magvit(installed, "--json", "doctor", cwd=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    assert json.loads(process.stdout)["packages"]["numpy"] == np.__version__


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles, one with a classifier, and clips of every kind; made with all that is installed."""
    folder = tmp_path_factory.mktemp("inputs")
    random = np.random.default_rng(0)
    clips = random.integers(0, 256, (8, 3, 32, 32, 3), np.uint8)
    np.save(folder / "clips.npy", clips)
    rows = [(str(i), x, x * i) for i in range(2) for x in (0.0, 0.5, 1.0)]
    write_trajectories(folder / "gestures.parquet", rows)
    write_video(folder / "clip.mkv", clips[0])
    (folder / "config.json").write_bytes(msgspec.json.encode(TINY))
    write_network(folder / "network.pt")
    bundle = folder / "bundle"
    entry, sizes = find_model("trajectory-small"), ClipSizes(None, *clips.shape[1:4])
    export_model(entry, bundle, weights="seeded", roles=["encode"], config=TINY, sizes=sizes)
    export_model(entry, folder / "both", weights="seeded", config=TINY)
    with (
        Tokenizer.open(bundle) as tokenizer,
        token_writer(folder / "tokens.npz", open_bundle(bundle)) as writer,
    ):
        labels = tuple("ab"[i % 2] for i in range(len(clips)))
        writer.write(tuple(map(str, range(len(clips)))), labels, tokenizer(clips))
    train_classifier(bundle, read_tokens(folder / "tokens.npz"), TrainingOptions())
    return folder


def write_trajectories(path: Path, rows: list[tuple[str, float, float]]) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra [data]")
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra [data]")
    ids, x, y = zip(*rows, strict=True)
    parquet.write_table(arrow.table({"id": ids, "x": x, "y": y}), path)


def write_video(path: Path, frames: np.ndarray) -> None:
    av = pytest.importorskip("av", reason="the extra [video]")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width = frames.shape[1:3]
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


class Means(torch.nn.Module):
    """A feature network of the published form: means of a picture's channels."""

    def forward(self, images: torch.Tensor, return_lpips: bool = False) -> torch.Tensor:
        means = images.float().mean((2, 3))
        return means / 255 if return_lpips else means


def write_network(path: Path) -> None:
    torch.jit.script(Means()).save(str(path))


BENCH = "bench bundle --inputs 1 --repetitions 1 --rounds 1 --workers 0 --threads 1"
# The purpose of each extra; `module` is a module that it installs.
MAIN_COMMANDS = {
    # The encoder and the classifier, both on the native backend.
    "": ("numpy", "classify bundle clips.npy -o out.csv --way tokens"),
    "cpu": ("onnxruntime", "classify bundle clips.npy -o out.csv --backend onnxruntime"),
    "data": ("pyarrow", f"tokenize bundle gestures.parquet -o out.parquet {' '.join(STYLE)}"),
    "evaluate": ("skimage", "evaluate reconstruction both clips.npy --sheet out.png"),
    "export": ("torch", "export trajectory-small --weights seeded --config config.json -o out"),
    "feature-distances": (
        "torchmetrics",
        "evaluate reconstruction both clips.npy --fid network.pt --lpips network.pt",
    ),
    "peers": ("openvino", f"{BENCH} --peers"),
    "hub": ("huggingface_hub", "push both me/model --dry-run"),
    "ray": ("ray", f"tokenize bundle gestures.parquet -o out --ray {' '.join(STYLE)}"),
    "report": ("plotly", f"{BENCH} --report out.html"),
    "rtx": ("tensorrt_rtx", "build bundle --precision fp32 --dry-run"),
    "telemetry": ("opentelemetry", "tokenize bundle clips.npy -o out.npz"),
    "video": ("av", f"tokenize bundle clip.mkv -o out.npz {' '.join(STYLE)}"),
}


@pytest.mark.slow
def test_main_command(extra: str, installed: dict[str, str], inputs: Path, tmp_path: Path) -> None:
    if extra not in MAIN_COMMANDS:
        pytest.skip(f"[{extra}] is for machines with an NVIDIA GPU")
    module, command = MAIN_COMMANDS[extra]
    if find_spec(module) is None:
        pytest.skip(f"{module} isn't installed: pip install 'magvit-runtime[{extra}]'")
    folder = shutil.copytree(inputs, tmp_path / "inputs")
    if extra == "rtx":
        # Planning a build needs only the digest of our plugins.
        (folder / "libmagvit_plugins.so").write_bytes(b"plugins")
        installed = installed | {"MAGVIT_LIBRARY_DIR": str(folder)}
    process = magvit(installed, *command.split(), "--json", cwd=folder)
    assert process.returncode == 0, process.stderr
    if extra == "peers":
        (openvino,) = [
            row for row in json.loads(process.stdout)["encoders"] if row["name"] == "OpenVINO"
        ]
        assert openvino["kind"] == "peer"


NEEDED = [
    ("tokenize bundle gestures.parquet -o out.npz", "data"),
    ("tokenize bundle clips.npy -o out.parquet", "data"),
    ("tokenize bundle clips.npy -o out", "data"),
    ("tokenize bundle gestures.parquet -o out --ray", "ray"),
    ("tokenize bundle clip.mkv -o out.npz", "video"),
    ("tokenize bundle clips.npy -o out.npz --backend onnxruntime", "cpu"),
    ("classify bundle clips.npy -o out.csv --backend onnxruntime", "cpu"),
    ("verify bundle", "cpu"),
    ("verify bundle --against pytorch", "export"),
    ("export trajectory-small --weights seeded -o out", "export"),
    ("train classifier bundle tokens.npz", "export"),
    ("demo -o out", "export"),
    ("doctor hf://me/model", "hub"),
    ("push bundle me/model", "hub"),
    ("evaluate reconstruction both clips.npy", "evaluate"),
    ("evaluate reconstruction both clips.npy --fvd network.pt", "feature-distances"),
    ("build bundle --precision fp32 --flavour tensorrt-rtx", "rtx"),
    ("build bundle --precision fp32 --flavour tensorrt", "tensorrt"),
    (f"{BENCH} --report out.html", "report"),
]


@pytest.mark.parametrize(("command", "needed"), NEEDED, ids=[command for command, _ in NEEDED])
def test_without_extras_each_command_names_the_one_it_needs(
    command: str, needed: str, inputs: Path, bare: dict[str, str]
) -> None:
    process = magvit(bare, *command.split(), cwd=inputs)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert f"Fix: pip install 'magvit-runtime[{needed}]'" in line
    assert "isn't installed" in line


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(tmp_path_factory.mktemp("bare"))


@pytest.mark.parametrize("module", EXTRAS_OF)
def test_extras_named_in_errors_bring_the_package(module: str) -> None:
    names = {canonicalize_name(name) for name in packages_distributions().get(module, ())}
    if not names:
        pytest.skip(f"{module} isn't installed, so its distribution isn't known")
    for extra in missing_package(module, "a test").extras:
        direct = {canonicalize_name(Requirement(text).name) for text in OPTIONAL[extra]}
        # Of an extra that isn't installed here, only the names of its packages are known.
        assert names & brought_by(extra) or not direct <= brought_by(extra)
