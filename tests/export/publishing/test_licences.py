"""Weights that others published aren't pushed, whatever their file is called."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from magvit_export.catalog import CATALOG, find_model
from magvit_export.publishing.licences import check_licences, publisher
from magvit_runtime import Bundle, InputError, open_bundle
from magvit_runtime.bundle.manifest import Component, WeightsRecord

VIDEO = find_model("open-magvit2-video-128")
RELEASED = msgspec.to_builtins(VIDEO.config)
SMALL = msgspec.to_builtins(find_model("trajectory-small").config)
HUB_NAME = f"{VIDEO.repo}/{VIDEO.file}"


def component(
    source: str, name: str, config: object = RELEASED, family: str = "magvit"
) -> Component:
    record = {"source": source, "name": name}
    weights = msgspec.convert(record, WeightsRecord)
    return Component(family, msgspec.convert(config, dict), weights)


def with_components(bundle: Path, *components: Component) -> Bundle:
    opened = open_bundle(bundle)
    named = {f"model-{i}": one for i, one in enumerate(components)}
    return Bundle(opened.path, msgspec.structs.replace(opened.manifest, components=named))


@pytest.mark.parametrize("entry", [one for one in CATALOG if one.repo], ids=lambda one: one.name)
def test_weights_of_the_hub_are_their_publishers(entry: object) -> None:
    assert isinstance(entry, type(VIDEO))
    name = "/".join(filter(None, (entry.repo, entry.file)))
    assert publisher(component("hub", name, {}, entry.family)) == entry


def test_a_file_of_a_published_architecture_may_be_the_published_one() -> None:
    assert publisher(component("file", "renamed.ckpt")) == VIDEO
    assert publisher(component("file", "mine.ckpt", SMALL)) is None
    assert publisher(component("seeded", "seeded")) is None


def test_weights_of_an_unknown_repository_are_somebodys() -> None:
    found = publisher(component("hub", "them/theirs/model.ckpt", SMALL))
    assert found is not None
    assert (found.repo, found.licence) == ("them/theirs", "unknown")


def test_the_refusal_says_whose_they_are_and_what_to_do(tiny_bundle: Path) -> None:
    with pytest.raises(InputError) as error:
        check_licences(with_components(tiny_bundle, component("hub", HUB_NAME)))
    assert str(error.value) == (
        f"{tiny_bundle} holds weights that aren't yours to give away: found "
        "TencentARC/Open-MAGVIT2-Tokenizer-262144-Video/video_128_262144.ckpt, licence: none "
        "named: do not redistribute weights or engines. Fix: keep the bundle in a store of your "
        "own; or, if the weights are yours or their owner allows it, pass --redistribute-weights "
        "and --licence"
    )
    with pytest.raises(InputError) as error:
        check_licences(with_components(tiny_bundle, component("file", "x.ckpt")))
    assert str(error.value).startswith(
        f"{tiny_bundle} may hold weights that aren't yours to give away: found x.ckpt, of the "
        "architecture that TencentARC/Open-MAGVIT2-Tokenizer-262144-Video publishes; licence: none"
    )


def test_every_model_of_a_bundle_is_looked_at(tiny_bundle: Path) -> None:
    check_licences(open_bundle(tiny_bundle))
    mixed = (component("seeded", "seeded"), component("hub", HUB_NAME))
    with pytest.raises(InputError, match="TencentARC"):
        check_licences(with_components(tiny_bundle, *mixed))
