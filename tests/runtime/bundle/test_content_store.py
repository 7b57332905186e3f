"""Bundles that are folders of links into a store are opened; a link to anywhere else is refused."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from runtime.magvit_process import done, failed, magvit
from seeded_checkpoints import TINY

from magvit_runtime import BundleError, InputError, Tokenizer, open_bundle
from magvit_runtime.bundle.content_store import store_of
from magvit_runtime.bundle.writing import refuse_store

DATA = "encode.fp32.data"
CLIPS = np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3), np.uint8)


def stored_in(place: Callable[[Path], str]) -> Callable[[Path, Path], Path]:
    """Makes a folder of relative links to a bundle's files, each stored at a place of its own."""

    def store(bundle: Path, root: Path) -> Path:
        links = root / "models" / "revision"
        links.mkdir(parents=True)
        for file in bundle.iterdir():
            target = root / place(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            (links / file.name).symlink_to(os.path.relpath(target, links))
        return links

    return store


def digest(file: Path, algorithm: str) -> str:
    return hashlib.new(algorithm, file.read_bytes()).hexdigest()


def annex_key(file: Path) -> str:
    return f"MD5E-s{file.stat().st_size}--{digest(file, 'md5')}{file.suffix}"


STORES = {
    "hub": stored_in(lambda file: f"blobs/{digest(file, 'sha256')}"),
    "hub, small files by git": stored_in(lambda file: f"blobs/{digest(file, 'sha1')}"),
    "dvc": stored_in(
        lambda file: f"cache/files/md5/{digest(file, 'md5')[:2]}/{digest(file, 'md5')[2:]}"
    ),
    "git-annex": stored_in(
        lambda file: f".git/annex/objects/{file.name[-2:]}/3x/{annex_key(file)}/{annex_key(file)}"
    ),
    "oci": stored_in(lambda file: f"blobs/sha256/{digest(file, 'sha256')}"),
    "ollama": stored_in(lambda file: f"blobs/sha256-{digest(file, 'sha256')}"),
    "another release": stored_in(lambda file: f"releases/7/{file.name}"),
}


@pytest.fixture(params=STORES)
def links(request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path: Path) -> Path:
    return STORES[request.param](tiny_bundle, tmp_path / "store")


@pytest.mark.parametrize("backend", ["native", "onnxruntime"])
def test_a_bundle_in_a_store_gives_the_same_tokens(
    links: Path, tiny_bundle: Path, backend: str
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra [cpu]")
    with Tokenizer.open(tiny_bundle, backend=backend) as tokenizer:
        expected = tokenizer(CLIPS)
    with Tokenizer.open(links, backend=backend) as tokenizer:
        np.testing.assert_array_equal(tokenizer(CLIPS), expected)


def test_a_bundle_in_a_store_isnt_changed(links: Path) -> None:
    before = {path.name: path.readlink() for path in links.iterdir()}
    with pytest.raises(InputError, match=r"can't be changed: its files are links into .* cp -rL "):
        refuse_store(links)
    assert {path.name: path.readlink() for path in links.iterdir()} == before


@pytest.mark.slow
def test_the_commands_read_it_and_say_that_they_dont_write_it(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    links = STORES["dvc"](tiny_bundle, tmp_path / "store")
    stored = {p: p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file()}
    np.save(tmp_path / "clips.npy", CLIPS)
    done("tokenize", links, tmp_path / "clips.npy", "-o", tmp_path / "tokens.npz")
    done("doctor", links)
    verified = magvit("verify", links, "--against", "fp32")
    assert verified.returncode == 0, verified.stderr
    assert f"no parity stamp: {links} can't be changed" in verified.stdout
    export = ("export", "trajectory-small", "--weights", "seeded", "-o", links)
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(TINY))
    assert "can't be changed" in failed(2, *export, "--config", tmp_path / "config.json")
    assert {p: p.read_bytes() for p in stored} == stored


def test_a_link_to_what_the_store_doesnt_hold(tiny_bundle: Path, tmp_path: Path) -> None:
    """Of the same bytes even: only the store's own files are followed."""
    for name, store in STORES.items():
        links = store(tiny_bundle, tmp_path / name / "store")
        outside = tmp_path / name / "outside.data"
        shutil.copyfile(links / DATA, outside)
        (links / DATA).unlink()
        (links / DATA).symlink_to(outside)
        with pytest.raises(BundleError, match="is a link to outside the bundle"):
            Tokenizer.open(links)


@pytest.mark.parametrize(
    "target",
    ["secrets.json", "ab/secrets.json", "bundle.json.d/x", "secrets/secrets", "0123456789abcdef"],
)
def test_a_manifest_is_no_link_to_any_file_of_the_machine(
    tiny_bundle: Path, tmp_path: Path, target: str
) -> None:
    """No store would name a file so; its text might come out in an error."""
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    place = tmp_path / "home" / target
    place.parent.mkdir(parents=True)
    (bundle / "bundle.json").rename(place)
    (bundle / "bundle.json").symlink_to(place)
    with pytest.raises(BundleError, match=r"bundle\.json is a link to outside"):
        open_bundle(bundle)


def test_a_store_of_no_depth(tmp_path: Path) -> None:
    """However its folders are named, a store isn't the whole disk."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").symlink_to(f"/a/b/{'0' * 64}")
    assert store_of(tmp_path / "bundle") is None


def test_a_changed_file_in_a_store(tiny_bundle: Path, tmp_path: Path) -> None:
    links = STORES["hub"](tiny_bundle, tmp_path / "store")
    content = bytearray((links / DATA).read_bytes())
    content[7] ^= 1
    (links / DATA).write_bytes(content)
    with pytest.raises(BundleError, match="has changed since export"):
        Tokenizer.open(links)
