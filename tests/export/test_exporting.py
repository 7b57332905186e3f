"""Bundles made by `export_model`: their manifest, and the errors of an export."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from seeded_checkpoints import TINY, published_tensors, write_checkpoint

from magvit_export.catalog import find_model
from magvit_export.checkpoints.reading import CheckpointError
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.families.magvit.tokenizer import empty_tokenizer
from magvit_runtime import Tokenizer, open_bundle
from magvit_runtime.errors import InputError

PRESET = find_model("trajectory-small")


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.ckpt"
    return write_checkpoint(path, published_tensors(TINY))


def test_the_manifest_says_what_was_exported(tiny_bundle: Path) -> None:
    manifest = json.loads((tiny_bundle / "bundle.json").read_text())
    assert manifest["schema_version"] == 2
    assert manifest["model"] == "trajectory-small"
    (component,) = manifest["components"].values()
    assert component["family"] == "magvit"
    assert component["weights"] == {"source": "seeded", "name": "seeded"}
    assert component["config"]["ch_mult"] == [1, 2]
    (graph,) = manifest["graphs"]["encode"].values()
    assert graph["preprocessing"] == {
        "layout": "NTHWC",
        "color": "RGB",
        "formula": "x / 127.5 - 1",
    }
    assert manifest["tokens"] == {
        "quantizer": {"kind": "lfq", "bits": 18, "bit_order": "lsb-first"},
        "temporal_stride": 1,
        "spatial_stride": 2,
    }
    (frames,) = graph["inputs"]
    assert frames == {
        "name": "frames",
        "dtype": "uint8",
        "shape": ["batch", "frames", "height", "width", 3],
        "kind": "pixels",
        "meaning": "RGB frames",
        "minimum": 0,
        "maximum": 255,
    }
    ids, latents = graph["outputs"]
    assert (ids["dtype"], ids["minimum"], ids["maximum"]) == ("int32", 0, 2**18 - 1)
    assert ids["shape"] == ["batch", "ceil(frames/1)", "ceil(height/2)", "ceil(width/2)"]
    assert latents["shape"][:2] == ["batch", 18]
    assert (ids["kind"], latents["kind"]) == ("ids", "latents")
    assert manifest["made_by"]["torch"] == torch.__version__
    age = datetime.now(UTC) - datetime.fromisoformat(manifest["created"])
    assert timedelta() <= age + timedelta(seconds=1) < timedelta(days=1)


def test_every_file_is_recorded_with_its_digest(tiny_bundle: Path) -> None:
    files = json.loads((tiny_bundle / "bundle.json").read_text())["files"]
    assert {path.name for path in tiny_bundle.iterdir()} == {"bundle.json", *files}
    for name, record in files.items():
        content = (tiny_bundle / name).read_bytes()
        assert record == {
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }


def test_the_manifest_reads_back_as_it_was_written(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert bundle.is_seeded
    precision, graph = bundle.graph("encode")
    assert precision == "fp32"
    assert bundle.verified_graph(graph) == tiny_bundle / "encode.fp32.onnx"


def test_a_variant_of_the_family_from_a_checkpoint_of_its_shape(
    checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "bundle"
    bundle = export_model(PRESET, output, weights=str(checkpoint), variant="raw", config=TINY)
    weights = bundle.manifest.component.weights
    assert (weights.source, weights.name, weights.variant) == ("file", "tiny.ckpt", "raw")
    assert weights.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert not bundle.is_seeded
    clips = np.random.default_rng(0).integers(0, 256, (1, 3, 10, 14, 3), dtype=np.uint8)
    model = empty_tokenizer(TINY)
    state = torch.load(checkpoint)["state_dict"]
    model.load_state_dict({key: state[key] for key in model.state_dict()}, assign=True)
    with Tokenizer.open(output) as tokenizer, torch.no_grad():
        np.testing.assert_array_equal(tokenizer(clips), model.encode(torch.from_numpy(clips)))


def test_a_checkpoint_of_another_shape_is_refused_before_anything_is_written(
    checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "bundle"
    wider = TokenizerConfig(ch=64, ch_mult=(1, 2), num_res_blocks=1)
    with pytest.raises(CheckpointError, match=r"has a wrong shape: found .*, expected "):
        export_model(PRESET, output, weights=str(checkpoint), config=wider)
    assert list(tmp_path.iterdir()) == []


def test_a_family_that_cant_be_exported_yet(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        export_model(replace(PRESET, family="cosmos"), tmp_path / "bundle", weights="hub")
    assert str(error.value) == (
        "models of the family 'cosmos' can't be exported yet: expected autoregressive, clip, ibq, "
        "magvit, videomae. "
        "Fix: `magvit models` lists those that can"
    )


def test_without_any_family_it_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magvit_export.families.family.entry_points", lambda **_: ())
    with pytest.raises(InputError, match="no family of models is installed"):
        export_model(PRESET, tmp_path / "bundle", weights="seeded")


@pytest.mark.parametrize("source", ["seeded:x", "seeded:-1", "nothing.ckpt"])
def test_weights_that_are_nowhere(tmp_path: Path, source: str) -> None:
    with pytest.raises(CheckpointError, match=f"checkpoint {source} is no file"):
        export_model(PRESET, tmp_path / "bundle", weights=source)


def test_seeded_weights_have_no_variants(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seeded weights have no EMA"):
        export_model(PRESET, tmp_path / "bundle", weights="seeded", variant="ema")


def test_a_preset_has_nothing_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trajectory-small has no published checkpoint"):
        export_model(PRESET, tmp_path / "bundle", weights="hub")


@pytest.mark.parametrize("name", ["batch", "frames", "height", "width"])
def test_sizes_must_be_positive(name: str) -> None:
    with pytest.raises(InputError) as error:
        ClipSizes(**{name: 0})
    assert str(error.value) == f"`{name}` must be positive: found 0"


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "photos"
    output.mkdir()
    (output / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(InputError) as error:
        export_model(PRESET, output, weights="seeded", config=TINY)
    assert str(error.value) == (f"{output} exists and is no bundle. Fix: choose another -o")
    assert [path.name for path in output.iterdir()] == ["cat.jpg"]


def test_a_file_in_the_place_of_the_bundle(tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    output.write_text("mine")
    with pytest.raises(InputError, match="exists and is no bundle"):
        export_model(PRESET, output, weights="seeded", config=TINY)
    assert output.read_text() == "mine"


def test_a_file_in_the_place_of_the_bundles_folder(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("mine")
    output = tmp_path / "models" / "bundle"
    with pytest.raises(InputError) as error:
        export_model(PRESET, output, weights="seeded", config=TINY)
    assert str(error.value) == f"can't write {output}: found File exists"


@pytest.mark.parametrize(
    ("model", "weights", "config", "words"),
    [
        ("trajectory-small", "seeded:1", TINY, "found weights seeded, expected weights seeded:1"),
        (
            "trajectory-small",
            "seeded",
            None,
            "found ch_mult [1, 2], expected ch_mult [1, 2, 2, 4]",
        ),
        (
            "open-magvit2-video-128",
            "seeded:2",
            TINY,
            "found model trajectory-small, weights seeded, "
            "expected model open-magvit2-video-128, weights seeded:2",
        ),
    ],
    ids=["other weights", "other architecture", "other model"],
)
def test_a_bundle_of_something_else_is_left_alone(
    bundle: Path, model: str, weights: str, config: TokenizerConfig | None, words: str
) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(InputError) as error:
        export_model(find_model(model), bundle, weights=weights, config=config)
    assert str(error.value) == (
        f"{bundle} holds a bundle of another model or other weights: {words}. "
        "Fix: choose another -o, or remove it"
    )
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


@pytest.mark.slow
def test_weights_are_told_apart_by_variant_and_digest_and_not_by_name(
    checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "bundle"
    export_model(PRESET, output, weights=str(checkpoint), variant="raw", config=TINY)
    with pytest.raises(InputError, match="found variant raw, expected variant ema"):
        export_model(PRESET, output, weights=str(checkpoint), config=TINY)
    other = tmp_path / checkpoint.name
    write_checkpoint(other, {k: v + 1 for k, v in published_tensors(TINY).items()})
    old, new = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (checkpoint, other))
    words = f"found weights of sha256 {old}, expected weights of sha256 {new}"
    with pytest.raises(InputError, match=words):
        export_model(PRESET, output, weights=str(other), variant="raw", config=TINY)
    renamed = Path(shutil.copy(checkpoint, tmp_path / "renamed.pt"))
    export_model(PRESET, output, weights=str(renamed), variant="raw", config=TINY)


def test_exporting_again_replaces_the_graph(bundle: Path) -> None:
    """A size is fixed in the second export, and no file of the first is left."""
    again = export_model(PRESET, bundle, weights="seeded", config=TINY, sizes=ClipSizes(frames=3))
    _, graph = again.graph("encode")
    assert graph.inputs[0].shape == ("batch", 3, "height", "width", 3)
    again.verified_graph(graph)
    with Tokenizer.open(bundle) as tokenizer:
        assert tokenizer(np.zeros((2, 3, 8, 8, 3), np.uint8)).shape == (2, 3, 4, 4)
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


@pytest.mark.slow
def test_exporting_again_mends_a_damaged_bundle(bundle: Path) -> None:
    (bundle / "encode.fp32.data").write_bytes(b"damage")
    export_model(PRESET, bundle, weights="seeded", config=TINY)
    Tokenizer.open(bundle).close()


def limit_file_size() -> None:
    """A disk with room for 200 kB per file: writing more fails as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_bundle_and_nothing_else(bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1}))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    process = subprocess.run(
        [
            *(sys.executable, "-c", "from magvit_runtime.cli.main import main; main()"),
            *("export", "trajectory-small", "--weights", "seeded", "--config", str(config)),
            *("-o", str(bundle)),
        ],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=limit_file_size,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr.startswith(f"magvit: can't write {bundle}: found File too large. Fix: ")
    assert len(process.stderr.splitlines()) == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "config.json"]
