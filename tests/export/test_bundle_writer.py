"""Several writers of one bundle, bundles that are volumes, and what a failure leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from runtime.magvit_process import MAIN
from seeded_checkpoints import TINY

from magvit_export.bundle_writer import existing_bundle, publish, staging_directory
from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_runtime import InputError, Tokenizer, open_bundle
from magvit_runtime.bundle.manifest import Manifest
from magvit_runtime.bundle.schema_one import SchemaOne

PRESET = find_model("trajectory-small")


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def rewritten(found: Manifest | SchemaOne | None) -> Manifest:
    assert isinstance(found, Manifest)
    return msgspec.structs.replace(found, created="later")


def test_what_another_writer_added_meanwhile_stays(bundle: Path) -> None:
    with staging_directory(bundle) as staging:
        (staging / "encode.fp32.onnx").write_bytes((bundle / "encode.fp32.onnx").read_bytes())
        export_model(PRESET, bundle, weights="seeded", config=TINY, precision="fp16")
        publish(bundle, staging.iterdir(), rewritten)
    manifest = open_bundle(bundle).manifest
    assert manifest.created == "later"
    assert manifest.graphs["encode"].keys() == {"fp32", "fp16"}
    assert not [path.name for path in bundle.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_two_exports_at_once_are_both_there(bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_bytes(msgspec.json.encode(TINY))
    arguments = ("export", PRESET.name, "--weights", "seeded", "--config", str(config))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MAIN, *arguments, "--precision", precision, "-o", str(output)]
        )
        for output in (bundle, tmp_path / "new")
        for precision in ("fp16", "bf16")
    ]
    assert [process.wait(timeout=600) for process in processes] == [0, 0, 0, 0]
    made = {bundle: {"fp32", "fp16", "bf16"}, tmp_path / "new": {"fp16", "bf16"}}
    for output, expected in made.items():
        opened = open_bundle(output)
        assert opened.graphs("encode").keys() == expected
        for graph in opened.graphs("encode").values():
            opened.verified_graph(graph)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["bundle", "config.json", "new"]


def test_a_folder_that_is_there_is_written_in_its_own_file_system(tmp_path: Path) -> None:
    """It may be a mounted volume, from whose parent nothing can be renamed into it."""
    volume = tmp_path / "volume"
    (volume / "lost+found").mkdir(parents=True)
    with staging_directory(volume) as staging:
        assert staging.parent == volume
        assert existing_bundle(volume) is None
    assert [path.name for path in volume.iterdir()] == ["lost+found"]
    export_model(PRESET, volume, weights="seeded", config=TINY)
    Tokenizer.open(volume).close()


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounting needs root and unshare"
)
def test_a_mounted_volume(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(TINY))
    export = f'{sys.executable} -c "{MAIN}" export {PRESET.name} --weights seeded'
    script = f"""
        mount -t tmpfs tmpfs volume || exit 77
        {export} --config config.json -o volume || exit 1
        {export} --config config.json -o volume --precision fp16 || exit 1
        ls -A volume
    """
    process = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode == 77 or "unshare failed" in process.stderr:
        pytest.skip("this machine lets nobody mount")
    assert process.returncode == 0, process.stderr
    graphs = [f"{role}.{name}" for role in ("decode", "encode") for name in ("fp16", "fp32")]
    files = [f"{graph}.{suffix}" for graph in graphs for suffix in ("data", "onnx")]
    assert process.stdout.splitlines()[-9:] == ["bundle.json", *files]


def test_a_failure_leaves_no_new_folder(tmp_path: Path) -> None:
    def refuse(_: object) -> Manifest:
        raise InputError("no")

    with staging_directory(tmp_path / "new") as staging:
        (staging / "file").touch()
        with pytest.raises(InputError, match="no"):
            publish(tmp_path / "new", staging.iterdir(), refuse)
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "new").symlink_to(tmp_path / "nowhere" / "deep")
    with pytest.raises(InputError, match="is no folder"):
        publish(tmp_path / "new", [], rewritten)
