"""Bundles that the first schema's exporter wrote: refused with commands that fix them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import to_builtins
from seeded_checkpoints import SMALL, TINY, published_tensors, write_checkpoint

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_runtime import BundleError, InputError, Tokenizer, open_bundle

MAGVIT = [sys.executable, "-c", "from magvit_runtime.cli.main import main; main()"]
OTHER_FILES = {"classifier.fp32.onnx": b"a graph", "engines/a.plan": b"a plan", "notes.txt": b"me"}


def write_schema_one(
    path: Path, config: TokenizerConfig, weights: dict[str, str], *graphs: str, **more: Any
) -> Path:
    """A folder with that exporter's files of a model, and with other files."""
    encoder = {
        precision: {"file": name, "data": [f"{name}.data"], "inputs": [], "outputs": [], **more}
        for precision in graphs
        for name in [f"encoder.{precision}.onnx"]
    }
    files = {name: b"old" for graph in encoder.values() for name in (graph["file"], *graph["data"])}
    for name, content in (files | OTHER_FILES).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    manifest = {
        "schema_version": 1,
        "model": "trajectory-small",
        "task": "video-tokenization",
        "config": to_builtins(config),
        "weights": weights,
        "encoder": encoder,
        "files": {},
    }
    (path / "bundle.json").write_text(json.dumps(manifest))
    return path


def mend_of(path: Path) -> str:
    with pytest.raises(BundleError) as error:
        open_bundle(path)
    assert error.value.what == f"{path / 'bundle.json'} has another schema version"
    assert (error.value.found, error.value.expected) == (1, 2)
    assert error.value.mend is not None
    return error.value.mend


def run(command: str, folder: Path) -> None:
    """Runs what a user would paste into a shell."""
    magvit, *arguments = shlex.split(command)
    assert magvit == "magvit"
    subprocess.run([*MAGVIT, *arguments], check=True, cwd=folder, capture_output=True)


def names(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_the_named_command_exports_it_again(tmp_path: Path) -> None:
    """The folder has a space in its name, and the architecture is no preset's."""
    path = tmp_path / "my bundle"
    write_schema_one(path, TINY, {"source": "seeded", "name": "seeded:3"}, "fp16", "fp32")
    run(mend_of(path), tmp_path)
    graphs = {"encode.fp32.onnx", "encode.fp32.data"}
    assert names(path) == {"bundle.json", *graphs, *OTHER_FILES}
    for name, content in OTHER_FILES.items():
        assert (path / name).read_bytes() == content
    assert open_bundle(path).manifest.files.keys() == graphs
    clips = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8, 3), np.uint8)
    same = export_model(
        find_model("trajectory-small"),
        tmp_path / "same",
        weights="seeded:3",
        roles=["encode"],
        config=TINY,
    )
    with Tokenizer.open(path) as again, Tokenizer.open(same.path) as anew:
        np.testing.assert_array_equal(again(clips), anew(clips))


@pytest.mark.slow
def test_a_checkpoint_is_called_by_its_name_and_variant(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "mine.ckpt", published_tensors(TINY))
    first = export_model(
        find_model("trajectory-small"),
        tmp_path / "first",
        weights=str(checkpoint),
        roles=["encode"],
        variant="raw",
        config=TINY,
    )
    weights = first.manifest.component.weights
    path = write_schema_one(
        tmp_path / "bundle", TINY, to_builtins(weights), "fp16", residual="fp32"
    )
    mend = mend_of(path)
    assert mend == (
        f"magvit export trajectory-small --weights mine.ckpt -o {path} --variant raw "
        "--roles encode --precision fp16 --residual fp32"
    )
    run(mend, tmp_path)
    manifest = open_bundle(path).manifest
    assert manifest.component == first.manifest.component
    assert manifest.graphs["encode"]["fp16"].residual == "fp32"


@pytest.mark.parametrize(
    ("weights", "config", "words"),
    [
        ("seeded:1", TINY, "found weights seeded, expected weights seeded:1"),
        ("seeded", SMALL, "found ch_mult [1, 2], expected ch_mult [1, 2, 2, 4]"),
    ],
    ids=["other weights", "other architecture"],
)
def test_another_model_leaves_it_alone(
    tmp_path: Path, weights: str, config: TokenizerConfig, words: str
) -> None:
    path = write_schema_one(
        tmp_path / "bundle", TINY, {"source": "seeded", "name": "seeded"}, "fp32"
    )
    before = {name: (path / name).read_bytes() for name in names(path)}
    with pytest.raises(InputError) as error:
        export_model(
            find_model("trajectory-small"), path, weights=weights, roles=["encode"], config=config
        )
    assert str(error.value) == (
        f"{path} holds a bundle of another model or other weights: {words}. "
        "Fix: choose another -o, or remove it"
    )
    assert {name: (path / name).read_bytes() for name in names(path)} == before


def test_a_malformed_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text('{"schema_version": 1}')
    with pytest.raises(BundleError, match="is malformed: found Object missing required field"):
        open_bundle(tmp_path)
    assert os.listdir(tmp_path) == ["bundle.json"]  # noqa: PTH208
