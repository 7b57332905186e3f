"""Architectures read from the reference's own `ddconfig`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from seeded_checkpoints import model_shapes

from magvit_export.families.family import read_config
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_runtime.errors import InputError, MissingPackageError

GOLDEN = Path(__file__).parents[3] / "golden"
DDCONFIG = {
    "double_z": False,
    "z_channels": 14,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 64,
    "ch_mult": [1, 1, 2],
    "num_res_blocks": 2,
}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_ddconfig_is_read(tmp_path: Path) -> None:
    config = read_config(write(tmp_path / "config.json", DDCONFIG), TokenizerConfig)
    assert config == TokenizerConfig(
        ch=64, ch_mult=(1, 1, 2), num_res_blocks=2, z_channels=14, resolution=256
    )
    assert config.dims == 3


def test_keys_that_are_left_out_are_the_released_models(tmp_path: Path) -> None:
    assert read_config(write(tmp_path / "config.json", {}), TokenizerConfig) == TokenizerConfig()


IMAGE = TokenizerConfig(ch_mult=(1, 1, 2, 2, 4), resolution=256, dims=2)
# As SEED-Voken's and taming's configurations have them.
SEED_VOKEN = """
seed_everything: true
model:
  class_path: src.Open_MAGVIT2.models.lfqgan.VQModel
  init_args:
    ddconfig:
      double_z: False
      z_channels: 14
      resolution: 256
      in_channels: 3
      out_ch: 3
      ch: 64
      ch_mult: [1, 1, 2]  # num_down = len(ch_mult) - 1
      num_res_blocks: 2
    lossconfig:
      target: src.Open_MAGVIT2.modules.losses.vqperceptual.VQLPIPSWithDiscriminator
    n_embed: 16384
"""
TAMING = {"model": {"params": {"ddconfig": DDCONFIG | {"attn_resolutions": [], "dropout": 0.0}}}}


@pytest.mark.parametrize(
    "content",
    [DDCONFIG, {"ddconfig": DDCONFIG}, SEED_VOKEN, TAMING],
    ids=["ddconfig", "entry", "SEED-Voken", "taming"],
)
def test_the_references_configuration_needs_no_dims(tmp_path: Path, content: object) -> None:
    config = read_config(write(tmp_path / "config", content), TokenizerConfig, IMAGE)
    assert config == TokenizerConfig(
        ch=64, ch_mult=(1, 1, 2), num_res_blocks=2, z_channels=14, resolution=256, dims=2
    )


@pytest.mark.parametrize(
    "text", ['{"ch": 64}', "ch: 64", "{ch: 64}", "---\n# wider\nch: 64\n", "\ufeffch: 64"]
)
def test_only_what_is_given_differs_from_the_named_model(tmp_path: Path, text: str) -> None:
    config = read_config(write(tmp_path / "config.txt", text), TokenizerConfig, IMAGE)
    assert config == TokenizerConfig(ch=64, ch_mult=(1, 1, 2, 2, 4), resolution=256, dims=2)


@pytest.mark.parametrize(
    "text",
    ["ch: !!python/object/apply:os.getcwd []", "a: &a {b: *a}", "[" * 100_000, "ch: 64\nch"],
    ids=["code", "in itself", "deep", "cut"],
)
def test_a_yaml_file_that_is_no_config(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="isn't one of this family"):
        read_config(write(tmp_path / "config.yaml", text), TokenizerConfig, IMAGE)


def test_yaml_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = write(tmp_path / "config.yaml", "ch: 64")
    with pytest.raises(MissingPackageError, match=r"pip install 'magvit-runtime\[export\]'"):
        read_config(path, TokenizerConfig)


@pytest.mark.parametrize(
    ("ch_mult", "dims", "strides"),
    [
        ((1, 2, 2, 4), 3, (4, 8)),
        ((1, 1, 2, 2, 4), 3, (4, 16)),
        ((1, 2), 3, (1, 2)),
        ((2, 2), 3, (2, 2)),
        ((1,), 3, (1, 1)),
        ((1, 1, 2, 2, 4), 2, (1, 16)),
    ],
)
def test_strides_follow_from_the_multipliers(
    ch_mult: tuple[int, ...], dims: int, strides: tuple[int, int]
) -> None:
    config = TokenizerConfig(ch_mult=ch_mult, dims=dims)
    assert (config.temporal_stride, config.spatial_stride) == strides


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attn_resolutions": [16]}, "unknown field `attn_resolutions`"),
        ({"dropout": 0.1}, "unknown field `dropout`"),
        ({"ch": 0}, "Expected `int` >= 1 - at `$.ch`"),
        ({"ch": 100}, "`ch` must be a multiple of 32"),
        ({"ch": "128"}, "Expected `int`, got `str` - at `$.ch`"),
        ({"ch_mult": []}, "`ch_mult` needs at least one level"),
        ({"ch_mult": [1, 0]}, "Expected `int` >= 1 - at `$.ch_mult["),
        ({"z_channels": 32}, "Expected `int` <= 31 - at `$.z_channels`"),
        ({"in_channels": 1}, "Invalid enum value 1 - at `$.in_channels`"),
        ({"double_z": True}, "double_z"),
        ({"dims": 4}, "Invalid enum value 4 - at `$.dims`"),
        ({"num_res_blocks": 1.5}, "Expected `int`, got `float` - at `$.num_res_blocks`"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = write(tmp_path / "config.json", DDCONFIG | change)
    with pytest.raises(InputError) as error:
        read_config(path, TokenizerConfig)
    message = str(error.value)
    assert message.startswith(f"config {path} isn't one of this family: found ")
    assert words in message
    assert "expected JSON or YAML with keys of ch, ch_mult, num_res_blocks, z_channels" in message


@pytest.mark.parametrize("text", ["", "[]", "ch", "- ch: 128", '{"ch": 128', "ch: [1, 2"])
def test_a_file_that_is_no_json_object(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="isn't one of this family"):
        read_config(write(tmp_path / "config.json", text), TokenizerConfig)


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(InputError) as error:
        read_config(path, TokenizerConfig)
    assert str(error.value) == f"can't read config {path}: found No such file or directory"


@pytest.mark.parametrize(
    "path",
    sorted(path for path in GOLDEN.glob("keys_*.json") if "ibq" not in path.stem),
    ids=lambda path: path.stem,
)
def test_keys_and_shapes_are_those_of_the_published_checkpoints(path: Path) -> None:
    published = json.loads(path.read_text())
    config = TokenizerConfig(
        **published["config"] | {"ch_mult": tuple(published["config"]["ch_mult"])},
        dims=3 if "video" in path.stem else 2,
    )
    raw = {key: tuple(shape) for key, shape, _ in published["keys"][: published["n_raw"]]}
    assert model_shapes(config) == raw
    # The EMA half: bookkeeping, then the raw keys' copies, in order.
    names = [key for key, _, _ in published["keys"][published["n_raw"] :]]
    assert names[:2] == ["model_ema.decay", "model_ema.num_updates"]
    assert names[2:] == ["model_ema." + key.replace(".", "") for key in raw]
