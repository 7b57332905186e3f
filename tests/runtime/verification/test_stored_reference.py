"""References that are files: cases that belong to a bundle, and files that can't be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from magvit_runtime import InputError, open_bundle
from magvit_runtime.bundle.manifest import WeightsRecord
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.verification.stored_reference import stored_reference

X = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
Z = np.random.default_rng(1).standard_normal((2, 18, 3, 4, 4)).astype(np.float32)
SHA256 = "5" * 64


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


def of_file(bundle: Bundle, variant: Any) -> Bundle:
    weights = WeightsRecord("file", "a.ckpt", variant, SHA256)
    component = replace(bundle.manifest.component, weights=weights)
    return Bundle(bundle.path, replace(bundle.manifest, components={"magvit": component}))


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(**arrays: Any) -> Path:
        np.savez(tmp_path / "file.npz", **arrays)
        return tmp_path / "file.npz"

    return write


def test_each_clip_has_its_own_latents(bundle: Bundle, save: Callable[..., Path]) -> None:
    reference = stored_reference(bundle, save(**{"a.x": X, "a.z_raw": Z, "b.x": X[:, :1]}))
    assert reference.clips is not None
    ((names, frames),) = reference.clips
    assert names == ("a 0", "a 1")
    np.testing.assert_array_equal(frames, X)
    np.testing.assert_array_equal(reference.run(X[::-1])["latents"], Z[::-1])
    assert reference.name.startswith("latents of raw weights in file.npz, sha256 ")


@pytest.mark.parametrize(("variant", "expected"), [("ema", Z + 1), ("raw", Z)])
def test_the_bundles_variant_is_taken(
    bundle: Bundle, save: Callable[..., Path], variant: str, expected: np.ndarray
) -> None:
    path = save(**{"x": X, "a.z_raw": Z, "a.z_ema": Z + 1, "weights": SHA256})
    reference = stored_reference(of_file(bundle, variant), path)
    np.testing.assert_array_equal(reference.run(X)["latents"], expected)


def test_cases_of_another_architecture_are_passed_over(
    bundle: Bundle, save: Callable[..., Path]
) -> None:
    ours = {"ch": 32, "num_res_blocks": 1}
    arrays = {"x": X, "a.z_raw": Z[:, :14], "b.z_raw": Z}
    config = {"a": ours | {"z_channels": 14}, "b": ours}
    path = save(**arrays, meta=json.dumps({"config": config}))
    np.testing.assert_array_equal(stored_reference(bundle, path).run(X)["latents"], Z)
    path = save(**arrays, meta=json.dumps({"config": {"ch": 128}}))
    with pytest.raises(InputError, match=r"has no case of the architecture and weights of"):
        stored_reference(bundle, path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a.x": X, "a.z_ema": Z}, r"expected CASE\.x and CASE\.z_raw, of trajectory-small"),
        ({"a.z_raw": Z}, "a has no clips with latents"),
        ({"a.x": X[:1], "a.z_raw": Z}, "a has no clips with latents"),
        ({"a.x": X, "a.z_raw": Z[:, :14]}, r"found \['uint8 \[2, 3, 8, 8, 3\]', 'float32 \[2, 14"),
        ({"a.x": X.astype(np.float32), "a.z_raw": Z}, "a has no clips with latents"),
        ({"a.x": X[..., 0], "a.z_raw": Z}, "a has no clips with latents"),
        ({"a.x": X, "a.z_raw": Z > 0}, "a has no clips with latents"),
        ({"a.x": X, "a.z_raw": Z, "weights": SHA256}, f"of other weights than .*{SHA256}"),
        ({"a.x": X, "a.z_raw": Z, "meta": "no JSON"}, "`meta` is no JSON with a config"),
        ({"a.x": X, "a.z_raw": Z, "meta": "[]"}, "`meta` is no JSON with a config"),
        ({"a.x": X, "a.z_raw": Z, "meta": '{"config": 3}'}, "`meta` is no JSON with a config"),
        ({"a.x": X, "a.z_raw": np.array([{}], object)}, "can't be read as npz"),
    ],
)
def test_what_cant_be_used(
    bundle: Bundle, save: Callable[..., Path], arrays: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        stored_reference(bundle, save(**arrays))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_damaged_files(bundle: Bundle, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.npz").write_bytes(content)
    with pytest.raises(InputError, match="can't be read as npz"):
        stored_reference(bundle, tmp_path / "file.npz")
