"""Bundles that are damaged, unsafe or from another time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from magvit_runtime import BundleError, Classifier, Tokenizer, open_bundle
from magvit_runtime.bundle.files import JSON_LIMIT

DATA = "encode.fp32.data"
MEND = "Fix: export it again with `magvit export`"


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def edit(bundle: Path, change: Callable[[Any], object]) -> None:
    path = bundle / "bundle.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def encoder(manifest: Any) -> Any:
    """The float32 encoder's entry in bundle.json."""
    return manifest["graphs"]["encode"]["fp32"]


def message_of_opening(path: Path) -> str:
    with pytest.raises(BundleError) as error:
        Tokenizer.open(path)
    return str(error.value)


def test_no_directory(tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert message_of_opening(path) == (
        f"{path} is no bundle: it has no bundle.json. "
        f"Fix: make one with `magvit export MODEL -o {path}`"
    )


def test_no_manifest(bundle: Path) -> None:
    (bundle / "bundle.json").unlink()
    assert "is no bundle: it has no bundle.json" in message_of_opening(bundle)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema_version": "1"}', b'{"model": "x"}'],
)
def test_a_malformed_manifest(bundle: Path, content: bytes) -> None:
    (bundle / "bundle.json").write_bytes(content)
    message = message_of_opening(bundle)
    assert message.startswith(f"{bundle / 'bundle.json'} is malformed: found ")
    assert message.endswith(MEND)


def test_a_manifest_of_gigabytes_is_not_read(bundle: Path) -> None:
    os.truncate(bundle / "bundle.json", JSON_LIMIT + 1)
    assert "bundle.json is too large" in message_of_opening(bundle)


@pytest.mark.parametrize("version", [0, 3, 99])
def test_another_schema_version_is_said_even_where_all_else_differs(
    bundle: Path, version: int
) -> None:
    (bundle / "bundle.json").write_text(json.dumps({"schema_version": version, "new": True}))
    assert message_of_opening(bundle) == (
        f"{bundle / 'bundle.json'} has another schema version: found {version}, expected 2. "
        "Fix: install the magvit-runtime that wrote it, "
        "or export it again with `magvit export`"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(extra=1), "unknown field `extra`"),
        (lambda m: m["tokens"].update(codebook=1), "unknown field `codebook` - at `$.tokens`"),
        (lambda m: m.pop("components"), "missing required field `components`"),
        (lambda m: m.update(components={}), "Expected `object` of length >= 1"),
        (
            lambda m: m["tokens"]["quantizer"].update(bits=32),
            "Expected `int` <= 31 - at `$.tokens.quantizer.bits`",
        ),
        (
            lambda m: m["tokens"]["quantizer"].update(bit_order="msb-first"),
            "Invalid enum value 'msb-first'",
        ),
        (lambda m: m["tokens"]["quantizer"].update(kind="dice"), "Invalid value 'dice'"),
        (
            lambda m: m["components"]["magvit"]["weights"].update(source="friend"),
            "Invalid enum value 'friend'",
        ),
        (lambda m: m["files"][DATA].update(sha256="0"), "matching regex"),
        (lambda m: m["files"][DATA].update(size=-1), "Expected `int` >= 0"),
        (lambda m: m["graphs"]["encode"].update(int4=encoder(m)), "Invalid enum value 'int4'"),
        (lambda m: m["graphs"].update(guess=m["graphs"]["encode"]), "Invalid enum value 'guess'"),
        (lambda m: encoder(m)["inputs"][0].update(dtype="float8"), "Invalid enum value 'float8'"),
        (lambda m: encoder(m)["inputs"][0].update(kind="moods"), "Invalid enum value 'moods'"),
    ],
)
def test_a_wrong_field_is_named(bundle: Path, change: Callable[[Any], object], words: str) -> None:
    edit(bundle, change)
    message = message_of_opening(bundle)
    assert message.startswith(f"{bundle / 'bundle.json'} is malformed: found ")
    assert words in message


@pytest.mark.parametrize(
    "name",
    ["../secret", "a/../../secret", "/etc/passwd", "..", "..\\secret", "C:\\secret", "", "a\0b"],
)
def test_a_file_name_that_leads_outside(bundle: Path, name: str) -> None:
    def rename(manifest: Any) -> None:
        manifest["files"][name] = manifest["files"].pop(DATA)
        encoder(manifest)["data"] = [name]

    edit(bundle, rename)
    with pytest.raises(BundleError) as error:
        open_bundle(bundle)
    assert str(error.value) == (
        f"{bundle / 'bundle.json'} names a file outside the bundle: found {name!r}"
    )


@pytest.mark.parametrize("field", ["file", "data"])
def test_a_graph_file_without_a_digest(bundle: Path, field: str) -> None:
    value = "other.onnx" if field == "file" else ["other.onnx"]
    edit(bundle, lambda manifest: encoder(manifest).update({field: value}))
    assert message_of_opening(bundle) == (
        f"{bundle / 'bundle.json'} names a graph file without its digest: found 'other.onnx'"
    )


def test_a_link_to_outside(bundle: Path, tmp_path: Path) -> None:
    """A link is refused even if its bytes are the same."""
    outside = tmp_path / "outside.data"
    (bundle / DATA).rename(outside)
    (bundle / DATA).symlink_to(outside)
    assert message_of_opening(bundle) == (
        f"{bundle / DATA} is a link to outside the bundle: found {outside.resolve()}. "
        "Fix: put the file itself in its place"
    )


def test_a_bundle_may_itself_be_a_link_and_have_links_within(bundle: Path, tmp_path: Path) -> None:
    (bundle / "weights").mkdir()
    (bundle / DATA).rename(bundle / "weights" / DATA)
    (bundle / DATA).symlink_to(Path("weights") / DATA)
    link = tmp_path / "current"
    link.symlink_to(bundle)
    bundle_by_link = open_bundle(link)
    assert bundle_by_link.verified_file(DATA) == link / DATA


def test_a_missing_file(bundle: Path) -> None:
    (bundle / DATA).unlink()
    assert message_of_opening(bundle) == f"{bundle / DATA} is missing. {MEND}"


def test_a_truncated_file(bundle: Path) -> None:
    size = (bundle / DATA).stat().st_size
    os.truncate(bundle / DATA, size - 1)
    assert message_of_opening(bundle) == (
        f"{bundle / DATA} has changed since export: "
        f"found {size - 1} bytes, expected {size} bytes. {MEND}"
    )


@pytest.mark.parametrize("name", [DATA, "encode.fp32.onnx"])
def test_one_changed_bit(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    message = message_of_opening(bundle)
    assert message.startswith(f"{bundle / name} has changed since export: found sha256 ")
    assert message.endswith(MEND)


def test_a_precision_that_it_doesnt_have(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError) as error:
        Tokenizer.open(tiny_bundle, precision="bf16")
    assert str(error.value) == (
        f"{tiny_bundle} has no encode graph of this precision: found fp32, expected bf16. "
        "Fix: magvit export trajectory-small --precision bf16"
    )


def test_a_bundle_without_any_encoder(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest.update(graphs={}))
    assert "has no encode graph: found none, expected encode" in message_of_opening(bundle)


def test_a_bundle_without_a_classifier(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError) as error:
        Classifier.open(tiny_bundle)
    assert str(error.value) == (
        f"{tiny_bundle} has no classifier. "
        f"Fix: magvit train classifier {tiny_bundle} TOKENS.parquet"
    )
