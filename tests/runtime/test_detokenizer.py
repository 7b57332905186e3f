"""Token ids in, frames out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_runtime import BackendError, BundleError, Detokenizer, InputError, Tokenizer

BITS = 18


@pytest.fixture(scope="module")
def detokenizer(tiny_bundle: Path) -> Iterator[Detokenizer]:
    with Detokenizer.open(tiny_bundle) as detokenizer:
        yield detokenizer


def ids_of(count: int, *grid: int) -> NDArray[np.int32]:
    shape = (count, *(grid or (3, 4, 6)))
    return np.random.default_rng(0).integers(0, 2**BITS, shape, dtype=np.int32)


def test_frames_are_uint8_of_the_grids_size(detokenizer: Detokenizer) -> None:
    frames = detokenizer(ids_of(2))
    assert frames.dtype == np.uint8
    assert frames.shape == (2, 3, 8, 12, 3)
    assert len(np.unique(frames)) > 100
    assert detokenizer.grid == ("t", "h", "w")


@pytest.mark.parametrize(("t", "frames"), [(1, 1), (2, 5), (5, 17)])
def test_the_first_token_is_one_frame_and_each_other_four(
    small_bundle: Path, t: int, frames: int
) -> None:
    with Detokenizer.open(small_bundle) as detokenizer:
        assert detokenizer(ids_of(1, t, 2, 3)).shape == (1, frames, 16, 24, 3)


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_one_position_has_no_spread_and_is_decoded_all_the_same(
    tiny_bundle: Path, backend: str
) -> None:
    """The reference divides 0 by 0 there."""
    with Detokenizer.open(tiny_bundle, backend=backend) as detokenizer:
        first, second = detokenizer(np.array([[[[0]]], [[[77]]]], np.int32))
    assert first.shape == (1, 2, 2, 3)
    assert not np.array_equal(first, second)


def test_what_a_tokenizer_gives_a_detokenizer_takes(tiny_bundle: Path) -> None:
    clips = np.random.default_rng(1).integers(0, 256, (2, 3, 16, 24, 3), dtype=np.uint8)
    with Tokenizer.open(tiny_bundle) as tokenizer, Detokenizer.open(tiny_bundle) as detokenizer:
        assert detokenizer(tokenizer(clips)).shape == clips.shape


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_a_batch_gives_what_its_clips_give(tiny_bundle: Path, batch_size: int) -> None:
    five = ids_of(5)
    with Detokenizer.open(tiny_bundle, batch_size=batch_size) as detokenizer:
        together = detokenizer(five)
        singly = np.concatenate([detokenizer(one[None]) for one in five])
    np.testing.assert_array_equal(together, singly)


def test_memory_order_makes_no_difference(detokenizer: Detokenizer) -> None:
    ids = ids_of(2)
    expected = detokenizer(ids)
    np.testing.assert_array_equal(detokenizer(np.asfortranarray(ids)), expected)
    np.testing.assert_array_equal(detokenizer(np.repeat(ids, 2, axis=-1)[..., ::2]), expected)


def test_threads_that_call_at_once_agree(detokenizer: Detokenizer) -> None:
    batches = [ids_of(1, t, 3, 4) for t in (1, 2, 3, 4)] * 4
    expected = [detokenizer(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for frames, one in zip(pool.map(detokenizer, batches), expected, strict=True):
            np.testing.assert_array_equal(frames, one)


def test_a_stream_takes_one_batch_at_a_time(detokenizer: Detokenizer) -> None:
    batches = [ids_of(count) for count in (1, 2)]
    for frames, ids in zip(detokenizer.stream(iter(batches)), batches, strict=True):
        np.testing.assert_array_equal(frames, detokenizer(ids))


@pytest.mark.parametrize(
    ("value", "found"), [(2**BITS, f"{2**BITS} at [0, 1, 2, 3]"), (-1, "-1 at [0, 1, 2, 3]")]
)
def test_an_id_outside_the_vocabulary(detokenizer: Detokenizer, value: int, found: str) -> None:
    ids = ids_of(1)
    ids[0, 1, 2, 3] = value
    with pytest.raises(InputError) as error:
        detokenizer(ids)
    assert str(error.value) == (
        f"ids are out of range: found {found}, expected 0 to {2**BITS - 1} (token ids)"
    )


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((1, 3, 4, 6), np.int64), "int64 [1, 3, 4, 6]"),
        (np.zeros((1, 3, 4, 6), np.float32), "float32 [1, 3, 4, 6]"),
        (np.zeros((3, 4, 6), np.int32), "int32 [3, 4, 6]"),
    ],
)
def test_arrays_that_are_no_ids(detokenizer: Detokenizer, array: np.ndarray, found: str) -> None:
    with pytest.raises(InputError) as error:
        detokenizer(array)
    assert str(error.value) == (
        f"ids don't fit this model: found {found}, expected int32 [batch, t, h, w] (token ids)"
    )


@pytest.mark.parametrize("shape", [(0, 3, 4, 6), (1, 3, 0, 6)])
def test_no_ids_at_all(detokenizer: Detokenizer, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^ids are empty: found int32 \["):
        detokenizer(np.zeros(shape, np.int32))


def test_a_bundle_of_an_encoder_alone_says_what_to_export(tmp_path: Path) -> None:
    from seeded_checkpoints import TINY

    from magvit_export.catalog import find_model
    from magvit_export.exporting import export_model

    preset = find_model("trajectory-small")
    export_model(preset, tmp_path, weights="seeded", roles=["encode"], config=TINY)
    with pytest.raises(BundleError, match=r"has no decode graph.*--roles decode"):
        Detokenizer.open(tmp_path)


def test_a_cpu_has_no_workers_and_no_device_arrays(tiny_bundle: Path) -> None:
    with Detokenizer.open(tiny_bundle) as detokenizer:
        facts = detokenizer.capabilities
        assert (facts.workers, facts.device_arrays) == (0, False)
        with pytest.raises(BackendError, match=r"takes no arrays on a GPU.*native-cuda"):
            detokenizer.decode_device(ids_of(1))
    with pytest.raises(InputError, match=r"has no workers.*leave `workers` out"):
        Detokenizer.open(tiny_bundle, workers=2)


def test_a_warm_up_takes_what_the_model_takes(detokenizer: Detokenizer) -> None:
    detokenizer.warm_up((3, 4, 6))
    with pytest.raises(InputError, match="found 2, expected 1 to `batch_size`, 1"):
        detokenizer.warm_up((3, 4, 6), batches=[2])
    with pytest.raises(InputError, match=r"ids don't fit this model: found int32 \[1, 4, 6\]"):
        detokenizer.warm_up((4, 6))


def test_leaving_the_block_closes_it(tiny_bundle: Path) -> None:
    with Detokenizer.open(tiny_bundle) as detokenizer:
        detokenizer(ids_of(1))
    with pytest.raises(BackendError, match="this session is closed"):
        detokenizer(ids_of(1))
