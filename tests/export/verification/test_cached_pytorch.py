"""PyTorch as a reference: which type computes what, and outputs that are kept."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from seeded_checkpoints import TINY

from magvit_export.catalog import find_model
from magvit_export.checkpoints.errors import CheckpointError
from magvit_export.cli.verify import verify
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_export.verification import cached_pytorch, reference_cache
from magvit_export.verification.cached_pytorch import cached_reference
from magvit_export.verification.reference_cache import ReferenceCache, cache_folder, source_digest
from magvit_runtime import InputError, open_bundle
from magvit_runtime.clips.samples import verification_clips
from magvit_runtime.types import Array
from magvit_runtime.verification.times import item_flop

CLIP = (3, 16, 24, 3)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAGVIT_CACHE_DIR", str(tmp_path / "cache"))
    return cache_folder()


def must_not_run(*_: object) -> None:
    raise AssertionError("the model was loaded")


def test_outputs_are_computed_once(
    tiny_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = verification_clips(CLIP)
    bundle = open_bundle(tiny_bundle)
    first = cached_reference(bundle, "encode")
    expected = first.run(clips)
    assert first.note() == ""
    assert first.seconds(clips) == 0
    monkeypatch.setattr(cached_pytorch, "pytorch_role", must_not_run)
    again = cached_reference(bundle, "encode")
    found = again.run(clips)
    assert again.note() == f"{len(clips)} of {len(clips)} outputs are kept in {folder}"
    assert found.keys() == expected.keys() == {"ids", "latents"}
    for kind, values in expected.items():
        np.testing.assert_array_equal(found[kind], values)
        assert found[kind].dtype == values.dtype


def test_what_an_output_depends_on_is_part_of_its_name(tiny_bundle: Path, tmp_path: Path) -> None:
    clip = verification_clips(CLIP)[:1]
    names = set()

    def note(path: Path, role: str = "encode", dtype: str = "float64", items: Array = clip) -> None:
        reference = cached_reference(open_bundle(path), role, None, dtype)  # type: ignore[arg-type]
        reference.run(items)
        names.update(file.name for file in cache_folder().iterdir())

    other_seed = tmp_path / "other"
    export_model(find_model("trajectory-small"), other_seed, weights="seeded:1", config=TINY)
    wider = msgspec.structs.replace(TINY, ch=64)
    other_config = tmp_path / "wider"
    export_model(find_model("trajectory-small"), other_config, weights="seeded", config=wider)
    note(tiny_bundle)
    note(tiny_bundle, dtype="float32")
    note(tiny_bundle, items=clip[:, :2])
    note(tiny_bundle, items=255 - clip)
    note(other_seed)
    note(other_config)
    ids = np.zeros((1, 3, 4, 4), np.int32) + np.arange(4, dtype=np.int32)
    note(tiny_bundle, "decode", items=ids)
    assert len(names) == 7


def test_another_source_is_another_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "outside_family"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "family.py").write_text("EPSILON = 1e-6\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = source_digest("magvit_export.x", "outside_family.family")
    assert source_digest("outside_family", "magvit_export") == before
    (package / "family.py").write_text("EPSILON = 1e-5\n")
    assert source_digest("magvit_export", "outside_family") != before


def test_a_damaged_file_is_computed_again(tiny_bundle: Path, folder: Path) -> None:
    clip = verification_clips(CLIP)[:1]
    bundle = open_bundle(tiny_bundle)
    expected = cached_reference(bundle, "encode").run(clip)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    middle = len(whole) // 2
    for damaged in (
        b"",
        whole[:middle],
        whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
    ):
        file.write_bytes(damaged)
        reference = cached_reference(bundle, "encode")
        np.testing.assert_array_equal(reference.run(clip)["latents"], expected["latents"])
        assert reference.note() == ""
        assert file.read_bytes() == whole


def test_without_a_folder_to_write_to_nothing_is_kept(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MAGVIT_CACHE_DIR", str(tmp_path / "file"))
    reference = cached_reference(open_bundle(tiny_bundle), "encode")
    reference.run(verification_clips(CLIP)[:1])
    assert reference.note() == ""


def test_files_used_longest_ago_make_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ReferenceCache(folder, {})
    items = [np.full((1, 2), i, np.int32) for i in range(3)]
    outputs = {"latents": np.zeros(100)}
    cache.put(items[0], outputs)  # type: ignore[arg-type]
    (file,) = folder.iterdir()
    monkeypatch.setattr(reference_cache, "LARGEST_BYTES", 2.5 * file.stat().st_size)
    cache.put(items[1], outputs)  # type: ignore[arg-type]
    for age, item in ((30, items[1]), (20, items[0])):
        path = cache._path(item)
        stat = path.stat()
        os.utime(path, (stat.st_atime - age, stat.st_mtime - age))
    assert cache.get(items[1]) is not None  # Now it is the one used last.
    cache.put(items[2], outputs)  # type: ignore[arg-type]
    assert [cache.knows(item) for item in items] == [False, True, True]


def test_large_items_are_float32_and_small_ones_float64(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(tiny_bundle)
    small, large = (verification_clips(shape)[:1] for shape in (CLIP, (9, 32, 24, 3)))
    assert cached_reference(bundle, "encode").name.startswith("PyTorch float64, seeded")
    limit = item_flop(bundle.graph("encode")[1], small.shape[1:])
    monkeypatch.setattr(cached_pytorch, "FLOAT64_FLOP", limit)
    reference = cached_reference(bundle, "encode")
    assert reference.name.startswith("PyTorch float32, float64 up to")
    assert reference.run(small)["latents"].dtype == np.float64
    assert reference.run(large)["latents"].dtype == np.float32
    exact = cached_reference(bundle, "encode", None, "float64").run(large)["latents"]
    error = reference.run(large)["latents"] - exact
    assert 0 < float(np.sqrt((error**2).mean())) < 5e-6 * exact.std()


@pytest.mark.parametrize("source", ["seeded:7", "absent.ckpt"])
def test_kept_outputs_are_no_way_around_the_weights(tiny_bundle: Path, source: str) -> None:
    bundle = open_bundle(tiny_bundle)
    cached_reference(bundle, "encode").run(verification_clips(CLIP)[:1])
    with pytest.raises((InputError, CheckpointError), match=r"seeded:7|absent\.ckpt"):
        cached_reference(bundle, "encode", source)


def test_a_second_verify_says_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bundle"
    sizes = ClipSizes(frames=3, height=16, width=16)
    entry = find_model("trajectory-small")
    export_model(entry, path, weights="seeded", roles=["encode"], config=TINY, sizes=sizes)
    first = verify(path, batch_sizes="1")
    assert first.passed
    assert first.facts["reference_note"] is None
    monkeypatch.setattr(cached_pytorch, "pytorch_role", must_not_run)
    second = verify(path, batch_sizes="1")
    assert second.facts["encoders"] == first.facts["encoders"]
    assert "outputs are kept in" in second.text
