"""Token files: what is written reads back, and what is no token file says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from magvit_runtime import Bundle, InputError, open_bundle
from magvit_runtime.clips.batches import VideoPlace
from magvit_runtime.clips.video import Tail
from magvit_runtime.quantizers.specs import LfqSpec
from magvit_runtime.results.token_files import read_tokens, token_writer

SUFFIXES = (".parquet", ".npz")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


def tokens(count: int, seed: int = 0) -> NDArray[np.int32]:
    random = np.random.default_rng(seed)
    return random.integers(0, 2**18, (count, 2, 3, 4)).astype(np.int32)


def write(path: Path, bundle: Bundle) -> Path:
    with token_writer(path, bundle) as writer:
        writer.write(("a", "b"), ("up", None), tokens(2))
        writer.write(("Ünï",), ("ünten",), tokens(1, seed=1))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_reads_back(tmp_path: Path, bundle: Bundle, suffix: str) -> None:
    table = read_tokens(write(tmp_path / f"tokens{suffix}", bundle))
    assert table.ids == ("a", "b", "Ünï")
    assert table.labels == ("up", None, "ünten")
    assert table.tokens.dtype == np.int32
    np.testing.assert_array_equal(table.tokens, np.concatenate([tokens(2), tokens(1, seed=1)]))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_says_what_its_tokens_are(tmp_path: Path, bundle: Bundle, suffix: str) -> None:
    info = read_tokens(write(tmp_path / f"tokens{suffix}", bundle)).info
    assert (info.model, info.grid) == ("trajectory-small", (2, 3, 4))
    assert info.quantizer == LfqSpec(bits=18, bit_order="lsb-first")
    # Seeded weights are called so wherever tokens made with them are.
    assert info.weights == "seeded"
    assert info.weights_sha256 is None


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("token", [-1, 2**18])
def test_tokens_that_the_model_doesnt_make(
    tmp_path: Path, bundle: Bundle, suffix: str, token: int
) -> None:
    path = tmp_path / f"tokens{suffix}"
    with token_writer(path, bundle) as writer:
        writer.write(("a",), (None,), np.full((1, 2, 3, 4), token, np.int32))
    with pytest.raises(InputError) as error:
        read_tokens(path)
    assert str(error.value) == (
        f"tokens in {path} are out of range: found {token} to {token}, expected 0 to 262143"
    )


PLACES = tuple(
    VideoPlace("/videos/walk.mkv", first, own, 24, 32, "30000/1001")
    for first, own in ((0, 5), (5, 5), (10, 3))
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("tail", ["pad", "short"])
def test_clips_of_a_video_know_their_places(
    tmp_path: Path, bundle: Bundle, suffix: str, tail: Tail
) -> None:
    """The last clip has one step of time where the others have two, or is filled up."""
    path = tmp_path / f"tokens{suffix}"
    last = tokens(1, seed=1)[:, : 1 if tail == "short" else 2]
    with token_writer(path, bundle, tail) as writer:
        writer.write(("walk:0", "walk:5"), (None, None), tokens(2), PLACES[:2])
        writer.write(("walk:10",), (None,), last, PLACES[2:])
    table = read_tokens(path)
    assert (table.info.tail, table.info.grid) == (tail, (2, 3, 4))
    assert table.places == PLACES
    np.testing.assert_array_equal(table.tokens[:2], tokens(2))
    np.testing.assert_array_equal(table.tokens[2:, : last.shape[1]], last)
    if tail == "short":
        assert table.time_steps == (2, 2, 1)
        assert (table.tokens[2, 1] == -1).all()
    else:
        assert table.time_steps == ()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_clips_of_no_video_have_no_places(tmp_path: Path, bundle: Bundle, suffix: str) -> None:
    table = read_tokens(write(tmp_path / f"tokens{suffix}", bundle))
    assert (table.info.tail, table.time_steps, table.places) == (None, (), ())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(1, 3, 3, 4), (1, 2, 3, 5), (1, 3, 4)])
def test_clips_of_another_size(
    tmp_path: Path, bundle: Bundle, suffix: str, shape: tuple[int, ...]
) -> None:
    other = np.zeros(shape, np.int32)

    def mix() -> None:
        with token_writer(tmp_path / f"tokens{suffix}", bundle, "short") as writer:
            writer.write(("a",), (None,), tokens(1))
            writer.write(("b",), (None,), other)

    with pytest.raises(InputError, match="a token file's clips are of one size"):
        mix()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", [(2, 2, 2), (2, 1, 1), (2, 2, 0)])
def test_steps_that_arent_those_of_the_tokens(
    tmp_path: Path, bundle: Bundle, steps: tuple[int, ...]
) -> None:
    path = tmp_path / "tokens.npz"
    with token_writer(path, bundle, "short") as writer:
        writer.write(("a", "b"), (None, None), tokens(2))
        writer.write(("c",), (None,), tokens(1)[:, :1])
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **content | {"time_steps": np.array(steps)})
    with pytest.raises(InputError, match=r"is damaged|are out of range"):
        read_tokens(path)


def test_other_tools_can_read_the_parquet_file(tmp_path: Path, bundle: Bundle) -> None:
    table = pq.read_table(write(tmp_path / "tokens.parquet", bundle))
    assert table.column_names == ["id", "label", "tokens"]
    assert table["tokens"].type == pa.list_(pa.int32(), 24)
    assert b"seeded" in table.schema.metadata[b"magvit"]
    with token_writer(tmp_path / "video.parquet", bundle, "short") as writer:
        writer.write(("walk:0", "walk:5"), (None, None), tokens(2), PLACES[:2])
        writer.write(("walk:10",), (None,), tokens(1)[:, :1], PLACES[2:])
    table = pq.read_table(tmp_path / "video.parquet")
    assert table.column_names == [
        *("id", "label", "tokens", "time_steps"),
        *("source", "first_frame", "frames", "height", "width", "rate"),
    ]
    # Steps that a clip hasn't are no numbers that another tool could take for tokens.
    assert table["tokens"][2].as_py()[12:] == [None] * 12
    assert table["frames"].to_pylist() == [5, 5, 3]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_on_the_way_leaves_no_file(tmp_path: Path, bundle: Bundle, suffix: str) -> None:
    path = tmp_path / f"tokens{suffix}"

    def fail() -> None:
        with token_writer(path, bundle) as writer:
            writer.write(("a",), (None,), tokens(1))
            raise RuntimeError("the encoder failed")

    with pytest.raises(RuntimeError, match="the encoder failed"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_kind_that_cant_be_written(tmp_path: Path, bundle: Bundle) -> None:
    path = tmp_path / "tokens.csv"
    with pytest.raises(InputError) as error, token_writer(path, bundle):
        pass
    assert str(error.value) == f"{path} is of an unknown kind: expected .parquet or .npz"


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    with pytest.raises(InputError) as error:
        read_tokens(path)
    assert str(error.value) == f"{path} is no file. Fix: make one with `magvit tokenize`"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"hello", b"PAR1", b"PK\x03\x04", bytes(1000)])
def test_a_file_of_something_else(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"tokens{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_tokens(path)
    assert str(error.value).startswith(f"{path} is no token file")
    assert str(error.value).endswith("Fix: make one with `magvit tokenize`")


def test_parquet_and_npz_files_of_other_things(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "plain.parquet")
    pq.write_table(
        pa.table({"x": [1]}).replace_schema_metadata({"magvit": "{}"}), tmp_path / "empty.parquet"
    )
    np.savez(tmp_path / "plain.npz", x=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 4
    for path in paths:
        with pytest.raises(InputError, match="is no token file"):
            read_tokens(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_file(tmp_path: Path, bundle: Bundle, suffix: str, share: float) -> None:
    path = write(tmp_path / f"tokens{suffix}", bundle)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match="is no token file"):
        read_tokens(path)


def test_tokens_that_dont_fit_their_grid(tmp_path: Path, bundle: Bundle) -> None:
    path = write(tmp_path / "tokens.npz", bundle)
    with np.load(path) as arrays:
        content = dict(arrays)
    content["tokens"] = content["tokens"][:2]
    np.savez(path, **content)
    with pytest.raises(InputError, match="is damaged"):
        read_tokens(path)


def test_labels_of_weights_from_a_file(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    manifest = msgspec.json.decode((copy / "bundle.json").read_bytes())
    manifest["components"]["magvit"]["weights"] = {
        "source": "file",
        "name": "mine.ckpt",
        "variant": "ema",
        "sha256": "0" * 64,
    }
    (copy / "bundle.json").write_bytes(msgspec.json.encode(manifest))
    info = read_tokens(write(tmp_path / "tokens.npz", open_bundle(copy))).info
    assert (info.weights, info.weights_sha256) == ("file mine.ckpt", "0" * 64)
