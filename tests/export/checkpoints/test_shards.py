"""Checkpoints of several files, and folders that hold a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from seeded_checkpoints import TINY, load_encoder_weights, model_shapes, raw_tensors
from torch import Tensor

from magvit_export.checkpoints.reading import CheckpointError
from magvit_export.checkpoints.shards import checkpoint_sha256

SHAPES = model_shapes(TINY)
RAW = raw_tensors(SHAPES)
SAFETENSORS = "model.safetensors.index.json"
PICKLES = "pytorch_model.bin.index.json"


def write_shards(folder: Path, index: str, prefix: str = "") -> Path:
    """Three shards and their index, as the hub has them."""
    folder.mkdir(exist_ok=True)
    ending = "safetensors" if index == SAFETENSORS else "bin"
    places: dict[str, str] = {}
    for number in range(3):
        name = f"model-{number + 1:05d}-of-00003.{ending}"
        tensors = {prefix + key: RAW[key] for key in list(RAW)[number::3]}
        if index == SAFETENSORS:
            save_file(tensors, folder / name)
        else:
            torch.save(tensors, folder / name)
        places |= dict.fromkeys(tensors, name)
    content = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / index).write_text(json.dumps(content))
    return folder / index


def is_raw(state: dict[str, Tensor]) -> bool:
    return state.keys() == RAW.keys() and all(torch.equal(state[key], RAW[key]) for key in RAW)


@pytest.mark.parametrize("index", [SAFETENSORS, PICKLES])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_index_and_its_folder_give_the_whole(tmp_path: Path, index: str, prefix: str) -> None:
    path = write_shards(tmp_path / "model", index, prefix)
    for given in (path, path.parent):
        loaded = load_encoder_weights(given, SHAPES)
        assert is_raw(loaded.state)
        assert loaded.sha256 == checkpoint_sha256(path)


def test_a_folder_with_both_kinds_gives_safetensors(tmp_path: Path) -> None:
    write_shards(tmp_path / "model", PICKLES)
    path = write_shards(tmp_path / "model", SAFETENSORS)
    assert load_encoder_weights(tmp_path / "model", SHAPES).sha256 == checkpoint_sha256(path)


def test_a_folder_with_one_file(tmp_path: Path) -> None:
    torch.save(RAW, tmp_path / "model.ckpt")
    (tmp_path / "config.json").write_text("{}")
    assert is_raw(load_encoder_weights(tmp_path, SHAPES).state)


def test_the_shards_of_the_hubs_cache_are_links(tmp_path: Path) -> None:
    index = write_shards(tmp_path / "blobs", SAFETENSORS)
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for number, file in enumerate(sorted(index.parent.iterdir())):
        blob = file.rename(file.with_name(f"blob{number}"))
        (snapshot / file.name).symlink_to(blob)
    assert is_raw(load_encoder_weights(snapshot, SHAPES).state)


def test_another_shard_is_another_checkpoint(tmp_path: Path) -> None:
    path = write_shards(tmp_path / "model", PICKLES)
    before = checkpoint_sha256(path)
    shard = tmp_path / "model" / "model-00002-of-00003.bin"
    tensors = torch.load(shard)
    torch.save({key: value + 1 for key, value in tensors.items()}, shard)
    assert checkpoint_sha256(path) != before


def change(path: Path, edit: Callable[[dict[str, str]], object]) -> None:
    content = json.loads(path.read_text())
    edit(content["weight_map"])
    path.write_text(json.dumps(content))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    path = write_shards(tmp_path / "model", SAFETENSORS)
    (path.parent / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(path, SHAPES)
    assert str(error.value) == (
        f"{path} names the shard model-00002-of-00003.safetensors, which is missing. "
        "Fix: download it into the same folder"
    )


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/hostname", "a/b.bin"])
def test_a_shard_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    path = write_shards(tmp_path / "model", SAFETENSORS)
    change(path, lambda places: places.update({next(iter(places)): name}))
    with pytest.raises(CheckpointError, match=f"names a shard that isn't beside it: found {name}"):
        load_encoder_weights(path, SHAPES)


def test_a_tensor_that_its_shard_lacks(tmp_path: Path) -> None:
    path = write_shards(tmp_path / "model", SAFETENSORS)
    change(path, lambda places: places.update({"x": next(iter(places.values()))}))
    with pytest.raises(CheckpointError, match=r"lacks tensors that model.safetensors.index.json"):
        load_encoder_weights(path, SHAPES)


def test_an_index_is_no_shard(tmp_path: Path) -> None:
    path = write_shards(tmp_path / "model", SAFETENSORS)
    change(path, lambda places: places.update({next(iter(places)): path.name}))
    with pytest.raises(CheckpointError, match="is an index where a shard should be"):
        load_encoder_weights(path, SHAPES)


@pytest.mark.parametrize("content", ['{"weight_map": {}}', '{"weight_map": 3}', '{"a": 1}'])
def test_json_that_is_no_index(tmp_path: Path, content: str) -> None:
    path = tmp_path / SAFETENSORS
    path.write_text(content)
    with pytest.raises(CheckpointError):
        load_encoder_weights(path, SHAPES)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "is a folder without a checkpoint: expected an index"),
        (("config.json", "README.md"), "is a folder without a checkpoint: expected an index"),
        (("a.ckpt", "b.pt"), "holds several checkpoints: found a.ckpt, b.pt. Fix: give one"),
    ],
)
def test_folders_that_say_nothing(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(tmp_path, SHAPES)
    assert words in str(error.value)
