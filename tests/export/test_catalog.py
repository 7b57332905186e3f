"""The table of models."""

from __future__ import annotations

import pytest

from magvit_export.catalog import CATALOG, find_model
from magvit_runtime.errors import InputError


def test_names_are_unique() -> None:
    names = [entry.name for entry in CATALOG]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_every_entry_can_be_found_and_says_where_its_weights_are(entry) -> None:
    assert find_model(entry.name) is entry
    assert entry.summary
    assert entry.licence
    # What can be exported has an architecture; what has a file has a repository.
    assert entry.config is not None
    assert entry.file is None or entry.repo is not None


def test_the_released_video_model() -> None:
    entry = find_model("open-magvit2-video-128")
    assert (entry.repo, entry.file) == (
        "TencentARC/Open-MAGVIT2-Tokenizer-262144-Video",
        "video_128_262144.ckpt",
    )
    assert entry.config is not None
    assert (entry.config.ch, entry.config.num_res_blocks, entry.config.z_channels) == (128, 4, 18)
    assert (entry.config.temporal_stride, entry.config.spatial_stride) == (4, 8)


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(InputError) as error:
        find_model("video")
    message = str(error.value)
    assert message.startswith("no model is named 'video': expected open-magvit2-video-128, ")
    assert message.endswith("Fix: magvit models")
