"""Addresses on the hub: read, written, and told from paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from magvit_runtime.errors import InputError
from magvit_runtime.hub.addresses import (
    HubAddress,
    address_in_cache,
    is_address,
    parse_address,
    reachable,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://me/model", HubAddress("me/model")),
        ("hf://me/model/", HubAddress("me/model")),
        ("hf://me/model@v1.0", HubAddress("me/model", "v1.0")),
        ("hf://me/model@v1/small/128", HubAddress("me/model", "v1", "small/128")),
        ("hf://me/model/small", HubAddress("me/model", None, "small")),
        ("hf://me/model@refs/pr/3", HubAddress("me/model", "refs/pr/3")),
        ("hf://me/model@refs/pr/3/small", HubAddress("me/model", "refs/pr/3", "small")),
        ("hf://me/model@feature%2Fx/small", HubAddress("me/model", "feature/x", "small")),
        (f"hf://me/my_model-1.5@{COMMIT}", HubAddress("me/my_model-1.5", COMMIT)),
    ],
)
def test_an_address_is_read_and_written(text: str, address: HubAddress) -> None:
    assert parse_address(text) == address
    assert parse_address(Path(text)) == address  # It has lost a slash.
    assert str(address) == text.rstrip("/")


def test_the_kind_that_the_hub_itself_writes_before_a_model_is_read() -> None:
    assert parse_address("hf://models/me/model@v1") == HubAddress("me/model", "v1")
    assert parse_address("me/model/small") == HubAddress("me/model", None, "small")


@pytest.mark.parametrize(
    "text",
    [
        *("hf://", "hf://model", "hf://me/", "hf://me/model@", "hf://me//model", "hf://-me/model"),
        *(
            "hf://me/model@v1/a//b",
            "hf://me/model@v1/../other",
            "hf://me/mo del",
        ),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected hf://OWNER/NAME"):
        parse_address(text)


def test_a_revision_after_the_folder_is_refused_with_the_right_form() -> None:
    with pytest.raises(InputError, match=r"Fix: write hf://me/model@v1/small$"):
        parse_address("hf://me/model/small@v1")


def test_paths_are_no_addresses() -> None:
    places = ("hf", "./hf://x", Path("model"), "s3://bucket/model", "/hf:/x")
    assert [place for place in places if is_address(place)] == []
    assert is_address("hf://me/model")
    assert is_address(Path("hf://me/model"))


def test_a_folder_in_the_cache_has_the_address_of_its_commit(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub/models--me--my-model/snapshots" / COMMIT
    address = HubAddress("me/my-model", COMMIT)
    assert address_in_cache(snapshot) == address
    assert address_in_cache(snapshot / "a/b") == HubAddress("me/my-model", COMMIT, "a/b")
    assert address_in_cache(tmp_path) is None
    assert address_in_cache(tmp_path / "models--me--x/snapshots/main") is None
    # A folder that is here is taken as it is; another machine's is asked of the hub.
    assert reachable(snapshot) == str(address)
    snapshot.mkdir(parents=True)
    assert reachable(snapshot) == snapshot
    assert reachable(tmp_path / "gone") == tmp_path / "gone"
