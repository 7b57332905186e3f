"""Files of features: what is written is read again, streamed, and of one shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from magvit_runtime import open_bundle
from magvit_runtime.errors import InputError
from magvit_runtime.results.feature_files import feature_writer, read_features

SHAPE = (8, 48)


def write(path: Path, bundle: Path, *counts: int, pool: str = "none") -> np.ndarray:
    random = np.random.default_rng(0)
    parts = []
    with feature_writer(path, open_bundle(bundle), pool) as writer:
        for count in counts:
            parts.append(random.standard_normal((count, *SHAPE), np.float32))
            first = sum(map(len, parts[:-1]))
            ids = tuple(f"é{first + i}" for i in range(count))
            writer.write(ids, ("a", *[None] * (count - 1)), parts[-1])
    return np.concatenate(parts)


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_what_is_written_is_read(videomae_bundle: Path, tmp_path: Path, suffix: str) -> None:
    features = write(tmp_path / f"f{suffix}", videomae_bundle, 3, 1)
    table = read_features(tmp_path / f"f{suffix}")
    np.testing.assert_array_equal(table.features, features)
    assert table.ids == ("é0", "é1", "é2", "é3")
    assert table.labels == ("a", None, None, "a")
    assert (table.info.model, table.info.shape, table.info.pool) == ("videomae-base", SHAPE, "none")
    assert table.info.weights.startswith("file videomae")
    assert (
        table.info.preprocessing == open_bundle(videomae_bundle).graph("features")[1].preprocessing
    )


def test_parquet_is_a_list_of_fixed_size_with_its_shape_in_the_schema(
    videomae_bundle: Path, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "f.parquet", videomae_bundle, 2)
    schema = parquet.read_schema(tmp_path / "f.parquet")
    assert str(schema.field("features").type).startswith("fixed_size_list")
    assert schema.field("features").type.list_size == 8 * 48
    assert b'"shape":[8,48]' in schema.metadata[b"magvit"]


def test_npy_holds_the_features_alone(videomae_bundle: Path, tmp_path: Path) -> None:
    features = write(tmp_path / "f.npy", videomae_bundle, 2, 2)
    np.testing.assert_array_equal(np.load(tmp_path / "f.npy"), features)


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".npy"])
def test_clips_of_another_shape_are_refused_and_leave_no_file(
    videomae_bundle: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"f{suffix}"

    def write_two_shapes() -> None:
        with feature_writer(path, open_bundle(videomae_bundle), "none") as writer:
            writer.write(("a",), (None,), np.zeros((1, 2), np.float32))
            writer.write(("b",), (None,), np.zeros((1, 3), np.float32))

    with pytest.raises(InputError, match=r"of one shape.*found \[3\], expected \[2\]"):
        write_two_shapes()
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_none(videomae_bundle: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="unknown kind"),
        feature_writer(tmp_path / "f.csv", open_bundle(videomae_bundle), "none"),
    ):
        pass
    with pytest.raises(InputError, match="is no file"):
        read_features(tmp_path / "f.npz")
    np.savez(tmp_path / "f.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="no file of features"):
        read_features(tmp_path / "f.npz")
