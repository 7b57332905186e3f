"""Weights that are NaN or infinite, in a file or once they are cast."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from seeded_checkpoints import TINY, ema_tensors, load_encoder_weights, model_shapes, raw_tensors
from torch import Tensor

from magvit_export.catalog import find_model
from magvit_export.checkpoints.finite import check_cast
from magvit_export.checkpoints.reading import CheckpointError
from magvit_export.exporting import export_model
from magvit_export.families.magvit.family import FAMILY
from magvit_export.loading import load_model, set_role_precision

SHAPES = model_shapes(TINY)
RAW = raw_tensors(SHAPES)
EMA = ema_tensors(SHAPES)
PRESET = find_model("trajectory-small")
KEY = "encoder.conv_in.conv_1.weight"
DECODER_KEY = next(key for key in RAW if key.startswith("decoder."))
AVERAGE = "model_ema.encoderconv_inconv_1weight"


def write(path: Path, changes: dict[str, tuple[int, float]]) -> Path:
    """Published weights, the first elements of some tensors changed."""
    tensors = {key: value.clone() for key, value in (RAW | EMA).items()}
    for key, (count, value) in changes.items():
        tensors[key].view(-1)[:count] = value
    torch.save(tensors, path)
    return path


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_tensor_and_the_counts_are_named(tmp_path: Path, value: float) -> None:
    changes = {KEY: (3, value), "encoder.norm_out.bias": (1, value)}
    path = write(tmp_path / "model.ckpt", changes)
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(path, SHAPES, "raw")
    assert str(error.value) == (
        f"{path} (raw weights): tensor {KEY} is not finite: found 3 of its {RAW[KEY].numel()} "
        "elements NaN or infinite, 4 elements in 2 tensors in all. "
        "Fix: take a checkpoint from before its training diverged"
    )


def test_only_the_weights_in_use_count(tmp_path: Path) -> None:
    path = write(tmp_path / "model.ckpt", {AVERAGE: (1, math.nan), DECODER_KEY: (1, math.nan)})
    assert load_encoder_weights(path, SHAPES, "raw").variant == "raw"
    with pytest.raises(CheckpointError, match=rf"\(ema weights\): tensor {KEY} is not finite"):
        load_encoder_weights(path, SHAPES)


def test_float64_that_float32_cant_hold(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {key: value.double() for key, value in RAW.items()}
    tensors["encoder.norm_out.weight"] = tensors["encoder.norm_out.weight"] * 1e200
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"tensor encoder.norm_out.weight is not finite"):
        load_encoder_weights(path, SHAPES)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_weights_of_every_float_type_are_read(
    tmp_path: Path, dtype: torch.dtype, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    tensors = {key: value.to(dtype) for key, value in RAW.items()}
    if suffix == ".ckpt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    state: dict[str, Tensor] = load_encoder_weights(path, SHAPES).state
    assert all(torch.equal(state[key], tensors[key].float()) for key in RAW)


@pytest.mark.parametrize(
    ("precision", "value", "limit"), [("fp16", -1e6, "65504"), ("bf16", 3.4e38, "3.38953e+38")]
)
def test_a_cast_that_overflows_is_refused_before_anything_is_written(
    tmp_path: Path, precision: str, value: float, limit: str
) -> None:
    path = write(tmp_path / "model.ckpt", {KEY: (2, value)})
    with pytest.raises(CheckpointError) as error:
        export_model(
            PRESET,
            tmp_path / "bundle",
            weights=str(path),
            variant="raw",
            config=TINY,
            precision=precision,  # type: ignore[arg-type]
        )
    assert str(error.value) == (
        f"tensor {KEY} overflows in {precision}: found 2 of its {RAW[KEY].numel()} elements NaN or "
        f"infinite, expected at most {limit}. Fix: export it with --precision fp32"
        + (" or bf16" if precision == "fp16" else "")
    )
    assert list(tmp_path.iterdir()) == [path]


def test_islands_of_float32_hold_what_fp16_cant(tmp_path: Path) -> None:
    path = write(tmp_path / "model.ckpt", {"encoder.norm_out.weight": (1, 1e6)})
    role = FAMILY.roles["encode"]
    module = role.wrap(load_model(FAMILY, PRESET, TINY, ["encode"], str(path), "raw").module)
    set_role_precision(role, module, "fp16")
    check_cast(module, "fp16")
