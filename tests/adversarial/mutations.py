"""Ways to damage bytes, JSON and folders; a seeded generator makes all random choices."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.random import Generator

ENCODER = "encode.fp32.onnx"
DATA = "encode.fp32.data"

# Names that lead out of a folder on some system, or that some function can't handle. OUTSIDE stands
# for the absolute path of a folder outside.
NAMES = (
    "", ".", "..", "/", "//", "./.", "a/..", "../outside/canary", "a/../../outside/canary",
    "OUTSIDE/canary", "/OUTSIDE/canary", "file://OUTSIDE/canary", "~/canary", "$HOME/canary",
    "..\\outside\\canary", "\\\\host\\share", "C:\\canary", "C:canary", "a\0b", "\0", "..\0",
    "../outside/canary\0", "\uff0e\uff0e/outside/canary", "..\u2215outside\u2215canary",
    "..\u2044outside", "\u2025/outside/canary", "\u202e..", "\u200b../outside/canary", " ..", ".. ",
    "../ outside", "..%2foutside%2fcanary", "a" * 256, "a/" * 3000 + "b", "é" * 200,
    "e\u0301", "\ud7ff", "\U0010ffff", "\n", "\r\n", "\x1b[31m", "bundle.json", "engines",
    "encode.fp32.onnx/", "encode.fp32.onnx/x", "./encode.fp32.onnx", ENCODER.upper(), "CON",
    "NUL.onnx", "-rf", "*", "?", "{}", "%s", "/dev/zero", "/dev/stdin", "/proc/self/mem",
    "/proc/self/fd/0", "/dev/null",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 31, 32, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64,
    -(2**63), -(2**63) - 1, 0.0, -0.0, 0.5, 1e300, 1e-320, [], {}, [[]], [{}], [None], "", "x",
    "fp32", "fp16", "int4", "0" * 64, "f" * 63, ["x"], [1], [-1], [2**40] * 5, [1, 2, 4, 4, 3],
    {"x": 1}, {"": {}}, "batch", "é", "\ud7ff", "\0", "a" * 70000, [0] * 5000,
    ["batch", "frames"], ["batch", "frames", "height", "width", 2**40],
)  # fmt: skip


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# Bytes to bytes.


def truncated(content: bytes, random: Generator) -> bytes:
    return content[: random.integers(len(content))]


def bits_flipped(content: bytes, random: Generator) -> bytes:
    damaged = bytearray(content)
    for place in random.integers(len(content), size=random.integers(1, 5)):
        damaged[place] ^= 1 << random.integers(8)
    return bytes(damaged)


def bytes_changed(content: bytes, random: Generator) -> bytes:
    damaged = bytearray(content)
    for place in random.integers(len(content), size=random.integers(1, 9)):
        damaged[place] = random.choice([0, 0x7F, 0x80, 0xFF, random.integers(256)])
    return bytes(damaged)


def spliced(content: bytes, random: Generator) -> bytes:
    """A piece of the bytes overwrites another place, or is inserted there."""
    start, place = random.integers(len(content), size=2)
    piece = content[start : start + random.integers(1, 200)]
    kept = len(piece) if random.random() < 0.5 else 0
    return content[:place] + piece + content[place + kept :]


def cut(content: bytes, random: Generator) -> bytes:
    start = random.integers(len(content))
    return content[:start] + content[start + random.integers(1, 100) :]


def noise_put_in(content: bytes, random: Generator) -> bytes:
    place = random.integers(len(content))
    return content[:place] + random.bytes(random.integers(1, 100)) + content[place:]


DAMAGES = (truncated, bits_flipped, bytes_changed, spliced, cut, noise_put_in)


def damaged(content: bytes, random: Generator) -> bytes:
    damage: Callable[[bytes, Generator], bytes] = DAMAGES[random.integers(len(DAMAGES))]
    return damage(content, random)


# JSON text to JSON text.


def nested_deeply(text: bytes, random: Generator) -> bytes:
    depth = int(random.choice([500, 2000, 100_000, 1_000_000]))
    opening, closing = [(b"[", b"]"), (b'{"a":', b"}")][random.integers(2)]
    value = opening * depth + (b"1" + closing * depth if random.random() < 0.5 else b"")
    return with_value(text, random, value)


def number_of_many_digits(text: bytes, random: Generator) -> bytes:
    digits = b"9" * int(random.choice([20, 400, 5000, 100_000]))
    tail = (b"", b".5", b"e9", b"e999999999", b"." + digits)[random.integers(5)]
    return with_value(text, random, (b"-" if random.random() < 0.3 else b"") + digits + tail)


def text_that_is_no_utf8(text: bytes, random: Generator) -> bytes:
    bad = (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80", b"\\ud800")
    value = b'"' + bad[random.integers(len(bad))] + b'"'
    return with_value(text, random, value)


def with_value(text: bytes, random: Generator, value: bytes) -> bytes:
    """The text with a literal in place of one of its values or keys."""
    marker = "⁂"
    tree = json.loads(text)
    parent, key = random_place(tree, random)
    parent[key] = marker
    return json.dumps(tree).encode().replace(json.dumps(marker).encode(), value)


def key_doubled(text: bytes, random: Generator) -> bytes:
    """A key occurs twice, the second time with another value."""
    tree = json.loads(text)
    parent, key = random_place(tree, random)
    while not isinstance(parent, dict):
        parent, key = random_place(tree, random)
    parent["⁂"] = random_value(random)
    return json.dumps(tree).encode().replace(json.dumps("⁂").encode(), json.dumps(key).encode())


def value_changed(text: bytes, random: Generator) -> bytes:
    tree = json.loads(text)
    for _ in range(random.integers(1, 3)):
        parent, key = random_place(tree, random)
        parent[key] = random_value(random)
    return json.dumps(tree).encode()


def entry_removed(text: bytes, random: Generator) -> bytes:
    tree = json.loads(text)
    parent, key = random_place(tree, random)
    del parent[key]
    return json.dumps(tree).encode()


def entry_moved(text: bytes, random: Generator) -> bytes:
    """A value is copied from one place to another."""
    tree = json.loads(text)
    source, key = random_place(tree, random)
    value = json.loads(json.dumps(source[key]))
    target, other = random_place(tree, random)
    target[other] = value
    return json.dumps(tree).encode()


def key_renamed(text: bytes, random: Generator) -> bytes:
    tree = json.loads(text)
    parent, key = random_place(tree, random)
    if isinstance(parent, dict):
        names = (*NAMES, "fp16", "bf16", "tf32", key + "x")
        parent[names[random.integers(len(names))]] = parent.pop(key)
    else:
        parent.append(parent[key])
    return json.dumps(tree).encode()


JSON_DAMAGES = (
    damaged,
    nested_deeply,
    number_of_many_digits,
    text_that_is_no_utf8,
    key_doubled,
    value_changed,
    entry_removed,
    entry_moved,
    key_renamed,
)


def random_place(tree: Any, random: Generator) -> tuple[Any, Any]:
    """A container in a JSON tree, and one of its keys; all depths are equally likely."""
    places: list[list[tuple[Any, Any]]] = []

    def collect(node: Any, depth: int) -> None:
        if not isinstance(node, dict | list):
            return
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        for key in keys:
            if len(places) <= depth:
                places.append([])
            places[depth].append((node, key))
            collect(node[key], depth + 1)

    collect(tree, 0)
    level = places[random.integers(len(places))]
    return level[random.integers(len(level))]


def random_value(random: Generator) -> Any:
    values = VALUES if random.random() < 0.8 else NAMES
    return values[random.integers(len(values))]


# Folders.


def copy_bundle(sound: Path, folder: Path) -> Path:
    return Path(shutil.copytree(sound, folder / "bundle"))


def outside_of(bundle: Path) -> Path:
    """The folder that no code may touch."""
    return bundle.parents[1] / "outside"


def edit_manifest(bundle: Path, change: Callable[[Any], object]) -> None:
    path = bundle / "bundle.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_text(json.dumps(manifest))


def record_digest(bundle: Path, name: str) -> None:
    """Records a file's present digest in the manifest."""
    content = (bundle / name).read_bytes()
    record = {"size": len(content), "sha256": sha256(content)}
    edit_manifest(bundle, lambda manifest: manifest["files"].update({name: record}))


def replace_content(bundle: Path, name: str, content: bytes) -> None:
    (bundle / name).write_bytes(content)
    record_digest(bundle, name)


def replaced_by(path: Path, outside: Path, kind: str) -> None:
    """Replaces a file by something else; the file's content is then outside."""
    canary = outside / "canary"
    if path.is_dir():
        shutil.copytree(path, canary)
        shutil.rmtree(path)
    else:
        shutil.copyfile(path, canary)
        path.unlink()
    if kind == "link out":
        path.symlink_to(canary)
    elif kind == "relative link out":
        path.symlink_to(os.path.relpath(canary, path.parent.resolve()))
    elif kind == "link over links":
        path.with_name("hop").symlink_to(canary)
        path.symlink_to("hop")
    elif kind == "link by a folder":
        path.with_name("hop").symlink_to(outside)
        path.symlink_to("hop/canary")
    elif kind == "dangling link":
        path.symlink_to(outside / "none")
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "folder of that":
        path.mkdir()
        shutil.copy(canary, path / path.name) if canary.is_file() else None
    elif kind == "nothing in it":
        path.touch()
    elif kind == "hole of a terabyte":
        path.touch()
        os.truncate(path, 2**40)
    else:
        assert kind == "gone", kind


REPLACEMENTS = (
    "link out",
    "relative link out",
    "link over links",
    "link by a folder",
    "dangling link",
    "link to itself",
    "link to a device",
    "FIFO",
    "folder",
    "folder of that",
    "nothing in it",
    "hole of a terabyte",
    "gone",
)
