"""Architectures of IBQ, and the keys of the published checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from seeded_checkpoints import model_shapes

from magvit_export.families.family import read_config
from magvit_export.families.ibq.config import IbqConfig
from magvit_runtime.errors import InputError

GOLDEN = Path(__file__).parents[3] / "golden"
# The reference's own `ddconfig`, with what stands beside it there.
REFERENCE = {
    "n_embed": 8192,
    "embed_dim": 256,
    "double_z": False,
    "z_channels": 256,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 1, 2, 2, 4],
    "num_res_blocks": 4,
    "attn_resolutions": [16],
    "dropout": 0.0,
}


def test_the_references_config_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(REFERENCE))
    assert read_config(path, IbqConfig) == IbqConfig(n_embed=8192)


def test_the_references_yaml_is_read(tmp_path: Path) -> None:
    """`n_embed` and `embed_dim` stand beside `ddconfig` there, with what isn't the architecture."""
    beside = {"n_embed", "embed_dim"}
    arguments = {key: REFERENCE[key] for key in beside} | {
        "ddconfig": {key: value for key, value in REFERENCE.items() if key not in beside},
        "learning_rate": 1e-4,
        "lossconfig": {"target": "VQLPIPSWithDiscriminator"},
    }
    path = tmp_path / "ibq.yaml"
    path.write_text(json.dumps({"model": {"class_path": "IBQ", "init_args": arguments}}))
    assert read_config(path, IbqConfig, IbqConfig(num_res_blocks=2)) == IbqConfig(n_embed=8192)


@pytest.mark.parametrize(
    ("change", "levels"),
    [
        ({}, [4]),
        ({"attn_resolutions": (16, 64)}, [2, 4]),
        ({"attn_resolutions": ()}, []),
        ({"resolution": 128}, [3]),
    ],
)
def test_attention_stands_where_the_resolution_says(
    change: dict[str, object], levels: list[int]
) -> None:
    config = IbqConfig(ch=32, num_res_blocks=1, **change)
    keys = model_shapes(config)
    found = {key.split(".")[2] for key in keys if key.startswith("encoder.down.") and ".q." in key}
    assert found == {str(level) for level in levels}
    assert "encoder.mid.attn_1.q.weight" in keys


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_embed": 1}, "Expected `int` >= 2 - at `$.n_embed`"),
        ({"ch": 100}, "`ch` must be a multiple of 32"),
        ({"ch_mult": []}, "length >= 1 - at `$.ch_mult`"),
        ({"attn_resolutions": [0]}, "Expected `int` >= 1 - at `$.attn_resolutions["),
        ({"dims": 3}, "unknown field `dims`"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(REFERENCE | change))
    with pytest.raises(InputError) as error:
        read_config(path, IbqConfig)
    assert words in str(error.value)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("keys_ibq_*.json")), ids=lambda path: path.stem)
def test_keys_and_shapes_are_those_of_the_published_checkpoints(path: Path) -> None:
    published = json.loads(path.read_text())
    config = IbqConfig(n_embed=published["n_embed"], embed_dim=published["embed_dim"])
    assert read_config_of(published["config"]) == config.__class__(embed_dim=config.embed_dim)
    raw = {key: tuple(shape) for key, shape, _ in published["keys"][: published["n_raw"]]}
    assert model_shapes(config) == raw
    # The EMA half: bookkeeping, then the raw keys' copies, in order.
    names = [key for key, _, _ in published["keys"][published["n_raw"] :]]
    assert names[:2] == ["model_ema.decay", "model_ema.num_updates"]
    assert names[2:] == ["model_ema." + key.replace(".", "") for key in raw]
    # Of all that the family has: the codebook and both 1x1 convs have an average too.
    assert {"model_ema.quantizeembeddingweight", "model_ema.quant_convweight"} <= set(names)


def read_config_of(fields: dict[str, object]) -> IbqConfig:
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return IbqConfig(**fields | lists)
