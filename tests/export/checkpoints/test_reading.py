"""Checkpoints as they are published, as people save them, and as attackers and bad disks do."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime.peak_memory import PEAK
from safetensors.torch import save_file
from seeded_checkpoints import (
    SMALL,
    TINY,
    ema_tensors,
    load_encoder_weights,
    model_shapes,
    raw_tensors,
    write_checkpoint,
)
from torch import Tensor

from magvit_export.checkpoints.reading import CheckpointError

SHAPES = model_shapes(TINY)
RAW = raw_tensors(SHAPES)
EMA = ema_tensors(SHAPES)
LAST_CONV = "decoder.conv_out.conv_1."


def same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return state.keys() == expected.keys() and all(
        torch.equal(value, expected[key]) for key, value in state.items()
    )


def ema_by_raw_key() -> dict[str, Tensor]:
    return {key: EMA["model_ema." + key.replace(".", "")] for key in SHAPES}


@pytest.fixture
def save(tmp_path: Path) -> Callable[[dict[str, Tensor]], Path]:
    return lambda tensors: write_checkpoint(tmp_path / "model.ckpt", tensors)


def test_published_file_gives_ema_weights_and_its_digest(small_checkpoint: Path) -> None:
    shapes = model_shapes(SMALL)
    loaded = load_encoder_weights(small_checkpoint, shapes)
    assert loaded.variant == "ema"
    assert loaded.sha256 == hashlib.sha256(small_checkpoint.read_bytes()).hexdigest()
    expected = ema_tensors(shapes)
    assert same(loaded.state, {k: expected["model_ema." + k.replace(".", "")] for k in shapes})


def test_raw_weights_on_request(save: Callable[[dict[str, Tensor]], Path]) -> None:
    loaded = load_encoder_weights(save(RAW | EMA), SHAPES, "raw")
    assert loaded.variant == "raw"
    assert same(loaded.state, RAW)


def test_raw_weights_with_a_warning_where_there_is_no_ema(
    save: Callable[[dict[str, Tensor]], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = save(RAW)
    with caplog.at_level(logging.WARNING):
        loaded = load_encoder_weights(path, SHAPES)
    assert loaded.variant == "raw"
    assert same(loaded.state, RAW)
    assert caplog.messages == [f"{path} has no EMA weights: its raw weights are used"]


def test_keys_of_training_alone_are_passed_over(
    save: Callable[[dict[str, Tensor]], Path],
) -> None:
    training = {
        "loss.discriminator.main.0.weight": torch.zeros(4, 3),
        "loss.perceptual_loss.lin0.model.1.weight": torch.zeros(1),
        "loss.counter": torch.tensor(3),
        "model_ema.lossdiscriminatormain0weight": torch.zeros(4, 3),
    }
    assert same(load_encoder_weights(save(RAW | EMA | training), SHAPES).state, ema_by_raw_key())


def test_a_training_dump_without_ema_of_the_model_falls_back_to_raw(
    save: Callable[[dict[str, Tensor]], Path],
) -> None:
    path = save(RAW | {"model_ema.decay": torch.tensor(0.9), "model_ema.lossx": torch.zeros(1)})
    assert load_encoder_weights(path, SHAPES).variant == "raw"


@pytest.mark.parametrize("variant", ["raw", "ema"])
def test_the_decoders_last_conv_may_be_spelled_without_its_inner_level(
    save: Callable[[dict[str, Tensor]], Path], variant: str
) -> None:
    def respelled(key: str) -> str:
        short = key.replace("decoder.conv_out.conv_1.", "decoder.conv_out.conv.")
        return short.replace("model_ema.decoderconv_outconv_1", "model_ema.decoderconv_outconv")

    tensors = {respelled(key): value for key, value in (RAW | EMA).items()}
    assert not any(key.startswith(LAST_CONV) for key in tensors)
    loaded = load_encoder_weights(save(tensors), SHAPES, variant)
    assert same(loaded.state, RAW if variant == "raw" else ema_by_raw_key())


def bare(path: Path) -> Path:
    torch.save(RAW, path)
    return path


def lightning(path: Path) -> Path:
    torch.save(
        {
            "state_dict": RAW,
            "epoch": 3,
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}],
            "lr_schedulers": [],
        },
        path,
    )
    return path


def before_torch_1_6(path: Path) -> Path:
    torch.save({"state_dict": RAW}, path, _use_new_zipfile_serialization=False)
    return path


def safetensors(path: Path) -> Path:
    path = path.with_suffix(".safetensors")
    save_file(RAW, path)
    return path


@pytest.mark.parametrize("write", [bare, lightning, before_torch_1_6, safetensors])
def test_every_kind_of_file_gives_the_same_tensors(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    assert same(load_encoder_weights(write(tmp_path / "model.pt"), SHAPES).state, RAW)


def test_half_precision_weights_become_float32(save: Callable[[dict[str, Tensor]], Path]) -> None:
    halves = {key: value.half() for key, value in RAW.items()}
    state = load_encoder_weights(save(halves), SHAPES).state
    assert same(state, {key: value.float() for key, value in halves.items()})


def test_a_file_with_the_encoder_alone_gives_the_encoder(
    save: Callable[[dict[str, Tensor]], Path],
) -> None:
    encoder = {key: value for key, value in RAW.items() if key.startswith("encoder.")}
    assert same(load_encoder_weights(save(encoder), SHAPES).state, encoder)


def test_a_file_with_the_decoder_alone_is_refused(
    save: Callable[[dict[str, Tensor]], Path],
) -> None:
    path = save({key: value for key, value in RAW.items() if key.startswith("decoder.")})
    with pytest.raises(CheckpointError, match=r"lacks \d+ raw keys.*encoder\.conv_in"):
        load_encoder_weights(path, SHAPES)


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.ckpt"
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(path, SHAPES)
    assert str(error.value) == f"checkpoint {path} is no file"


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("write", [bare, before_torch_1_6, safetensors])
def test_a_truncated_file_is_called_truncated(
    tmp_path: Path, write: Callable[[Path], Path], share: float
) -> None:
    path = write(tmp_path / "model.ckpt")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(path, SHAPES)
    assert str(error.value).startswith(f"{path} can't be read: it is truncated or no checkpoint")
    assert str(error.value).endswith("Fix: download it again")


@pytest.mark.parametrize(
    "content",
    [
        bytes(4096),
        np.random.default_rng(0).bytes(5000),
        b"PK\x03\x04" + np.random.default_rng(1).bytes(5000),
    ],
    ids=["zeros", "noise", "zip of noise"],
)
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_file_of_something_else_is_called_no_checkpoint(
    tmp_path: Path, content: bytes, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="it is truncated or no checkpoint") as error:
        load_encoder_weights(path, SHAPES)
    assert "weights_only" not in str(error.value)  # Torch's advice to run what is in the file.


def test_damaged_bytes_never_end_in_another_error(
    tmp_path: Path, save: Callable[[dict[str, Tensor]], Path]
) -> None:
    """Wherever the damage falls, the result is the weights' own shapes or a clear error."""
    sound = save({"encoder.w": torch.zeros(100)}).read_bytes()
    random = np.random.default_rng(2)
    path = tmp_path / "damaged.ckpt"
    for _ in range(200):
        damaged = bytearray(sound)
        for place in random.integers(len(sound), size=4):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            state = load_encoder_weights(path, {"encoder.w": (100,)}).state
        except CheckpointError:
            continue
        assert state["encoder.w"].shape == (100,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "holds no state dict: found list"),
        (torch.zeros(2), "holds no state dict: found Tensor"),
        ({"state_dict": {}}, "holds no state dict"),
        ({"encoder.w": 3}, "holds no state dict: found encoder.w (int)"),
        (
            {"state_dict": RAW | {"encoder.norm_out.weight": [1.0]}},
            "entry encoder.norm_out.weight is no tensor: found list",
        ),
    ],
    ids=["list", "tensor", "empty state dict", "number", "list in the state dict"],
)
def test_a_pickle_of_something_else(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "model.ckpt"
    torch.save(content, path)
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(path, SHAPES)
    assert message in str(error.value)
    assert str(path) in str(error.value)


class Attack:
    """Unpickling it would create a file."""

    def __init__(self, proof: Path) -> None:
        self.command = f"touch {proof}"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, (self.command,))


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_code_in_a_pickle_is_named_and_never_run(tmp_path: Path, new_format: bool) -> None:
    proof = tmp_path / "was_run"
    path = tmp_path / "model.ckpt"
    torch.save(
        {"state_dict": RAW, "callbacks": Attack(proof)},
        path,
        _use_new_zipfile_serialization=new_format,
    )
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(path, SHAPES)
    message = str(error.value)
    assert "is a pickle that runs code when it is loaded, and none of it was run" in message
    assert "found posix.system" in message
    assert "Fix: don't trust this file" in message
    assert not proof.exists()
    torch.load(path, weights_only=False)
    assert proof.exists(), "the attack itself does nothing, so this test showed nothing"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_plain_pickle_is_never_run(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "was_run"
    path = tmp_path / "model.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": Attack(proof)}, protocol))
    with pytest.raises(CheckpointError):
        load_encoder_weights(path, SHAPES)
    assert not proof.exists()


def test_an_unknown_key_is_named(save: Callable[[dict[str, Tensor]], Path]) -> None:
    path = save(RAW | {"encoder.quant_conv.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(path, SHAPES)
    assert str(error.value) == (
        f"{path} holds keys that this model doesn't have: found encoder.quant_conv.weight. "
        "Fix: name the model (or --config) that the checkpoint was trained with, "
        "or save this model's keys alone"
    )


def test_of_many_unknown_keys_three_are_named(save: Callable[[dict[str, Tensor]], Path]) -> None:
    path = save(RAW | {f"extra.{i}": torch.zeros(1) for i in range(9)})
    with pytest.raises(CheckpointError, match=r"found extra\.0, extra\.1, extra\.2 and 6 more"):
        load_encoder_weights(path, SHAPES)


@pytest.mark.parametrize("variant", ["raw", "ema"])
def test_a_missing_key_is_named(save: Callable[[dict[str, Tensor]], Path], variant: str) -> None:
    key = "encoder.mid_block.0.norm1.bias"
    name = key if variant == "raw" else "model_ema.encodermid_block0norm1bias"
    tensors = RAW | EMA
    del tensors[name]
    path = save(tensors)
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(path, SHAPES, variant)
    count = len(SHAPES)
    assert str(error.value) == (
        f"{path} lacks 1 {variant} keys: found {count - 1} of {count}, expected {name}. "
        "Fix: save the whole model: torch.save(model.state_dict(), 'model.pt')"
    )


def test_ema_asked_for_of_a_file_without_any(save: Callable[[dict[str, Tensor]], Path]) -> None:
    with pytest.raises(CheckpointError, match="Fix: use --variant raw"):
        load_encoder_weights(save(RAW), SHAPES, "ema")


def test_a_wrong_shape_is_named(save: Callable[[dict[str, Tensor]], Path]) -> None:
    path = save(RAW | {"encoder.norm_out.weight": torch.zeros(32)})
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(path, SHAPES)
    assert str(error.value).startswith(
        f"{path}: tensor encoder.norm_out.weight has a wrong shape: found [32], expected [64]"
    )


def test_an_integer_tensor_is_named(save: Callable[[dict[str, Tensor]], Path]) -> None:
    path = save(RAW | {"encoder.norm_out.weight": torch.zeros(64, dtype=torch.int64)})
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(path, SHAPES)
    assert str(error.value) == (
        f"{path}: tensor encoder.norm_out.weight is not of a float type: found torch.int64"
    )


MEASURE = (
    PEAK
    + """
import json, sys
from pathlib import Path
from magvit_export.checkpoints.reading import load_weights
from magvit_export.families.magvit.family import FAMILY
shapes = {key: tuple(shape) for key, shape in json.loads(sys.argv[2]).items()}
before = peak()
state = load_weights(Path(sys.argv[1]), shapes, ("encoder.",), FAMILY.spellings).state
total = sum(float(value.sum()) for value in state.values())
print(json.dumps({"bytes": peak() - before, "total": total}))
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_loading_takes_less_memory_than_one_and_a_half_files(tmp_path: Path, suffix: str) -> None:
    """A whole copy in memory beside the mapped file would be twice the file's size."""
    shapes = {f"encoder.{i}.weight": (1024, 1024) for i in range(75)}
    path = tmp_path / f"model{suffix}"
    tensors = {key: torch.ones(shape) for key, shape in shapes.items()}
    if suffix == ".ckpt":
        write_checkpoint(path, tensors)
    else:
        save_file(tensors, path)
    size = path.stat().st_size
    assert size > 300e6
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), json.dumps(shapes)],
        capture_output=True,
        text=True,
        check=True,
    )
    measured = json.loads(process.stdout)
    assert measured["total"] == len(shapes) * 2**20  # So all of the weights have been read.
    assert measured["bytes"] < 1.6 * size
