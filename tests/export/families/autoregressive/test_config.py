"""Configs of autoregressive models: the reference's, and those that make no sense."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from seeded_checkpoints import FIRST_STAGE, SMALL_AR, golden

from magvit_export.catalog import find_model
from magvit_export.families.autoregressive.config import AutoregressiveConfig
from magvit_export.families.autoregressive.family import FAMILY
from magvit_export.families.family import read_config
from magvit_export.first_stage import first_stage_config
from magvit_runtime.errors import InputError

ENTRY = find_model("open-magvit2-ar-b")
PARAMETERS: dict[str, Any] = json.loads(str(golden("ar_small")["meta"]))["config"]
STAGE = {"ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "resolution": 128}


def read(path: Path, content: object) -> AutoregressiveConfig:
    path.write_text(json.dumps(content))
    return read_config(
        path,
        AutoregressiveConfig,
        ENTRY.config,
        section=FAMILY.section,
        training_fields=FAMILY.training_fields,
    )


@pytest.mark.parametrize(
    "content",
    [
        PARAMETERS,
        {"transformer_config": PARAMETERS},
        {"transformer_config": {"target": "GPT", "params": PARAMETERS}},
        {"model": {"init_args": {"transformer_config": {"init_args": PARAMETERS}}}},
    ],
)
def test_the_references_parameters_are_found_wherever_they_are(
    tmp_path: Path, content: object
) -> None:
    assert read(tmp_path / "c.json", content) == SMALL_AR


def test_a_whole_configuration_says_the_first_stage_too(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    content = {
        "transformer_config": {"params": PARAMETERS},
        "first_stage_config": {"params": {"ddconfig": STAGE}},
    }
    assert read(path, content) == SMALL_AR
    assert first_stage_config(ENTRY, path) == FIRST_STAGE
    path.write_text(json.dumps(PARAMETERS))
    assert first_stage_config(ENTRY, path) is None
    path.write_text(json.dumps({"ddconfig": STAGE}))
    assert first_stage_config(replace(ENTRY, first_stage=None), path) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"block_size": 200}, "square"),
        ({"n_head": 7}, "multiple"),
        ({"dim": 66}, "multiple"),
        ({"cond_dim": 128}, "cond_dim"),
        ({"factorized_bits": [6, 26]}, "bits"),
        ({"factorized_bits": [6, 6, 6]}, "factorized_bits"),
        ({"token_factorization": False}, "token_factorization"),
        ({"n_layers": 3}, "n_layers"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path / "c.json", PARAMETERS | change)
