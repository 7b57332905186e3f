"""`FeatureExtractor`: what transformers computes, of clips of any size, and what it refuses."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers_folders import (
    CLIP_PROCESSOR,
    VIDEOMAE_PROCESSOR,
    clip,
    clip_features,
    relative_rms,
    videomae,
    videomae_features,
)

from magvit_runtime import Detokenizer, FeatureExtractor, Tokenizer
from magvit_runtime.errors import BackendError, BundleError, InputError

# fp16's is what CLIP and VideoMAE are held to at full size; tiny ones have fewer values to average.
LIMITS = {"fp32": 1e-5, "fp16": 2e-3}


def clips(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize("size", [(32, 32), (41, 57), (90, 20), (16, 25)], ids=str)
def test_videomae_gives_what_transformers_gives(
    videomae_bundle: Path, precision: str, size: tuple[int, int]
) -> None:
    given = clips(3, 5, *size, 3)
    theirs = videomae_features(videomae(), given[:, [0, 1, 3, 4]], VIDEOMAE_PROCESSOR)
    with FeatureExtractor.open(videomae_bundle, precision=precision, batch_size=2) as extractor:
        ours = extractor(given)
        assert (ours.shape, ours.dtype) == ((3, 8, 48), np.float32)
        assert relative_rms(ours, theirs) < LIMITS[precision]
        pooled = extractor(given, pool="mean")
        assert relative_rms(pooled, theirs.mean(axis=1)) < LIMITS[precision]


@pytest.mark.parametrize("precision", LIMITS)
def test_clip_gives_what_transformers_gives(clip_bundle: Path, precision: str) -> None:
    images = clips(3, 50, 37, 3)
    theirs = clip_features(clip(), images, CLIP_PROCESSOR)
    with FeatureExtractor.open(clip_bundle, precision=precision, batch_size=2) as extractor:
        assert relative_rms(extractor(images), theirs) < LIMITS[precision]
        assert relative_rms(extractor(images, pool="mean"), theirs) < LIMITS[precision]


def test_clip_takes_the_frames_of_clips_one_by_one(clip_bundle: Path) -> None:
    given = clips(2, 5, 40, 40, 3)
    with FeatureExtractor.open(clip_bundle, batch_size=4) as extractor:
        frames = extractor(given)
        assert frames.shape == (2, 5, 24)
        np.testing.assert_allclose(frames[1], extractor(given[1]), atol=1e-5)
        np.testing.assert_allclose(extractor(given, "mean"), frames.mean(axis=1), atol=1e-6)


def test_grey_becomes_rgb_first(videomae_bundle: Path, clip_bundle: Path) -> None:
    given = clips(2, 4, 45, 40, 1)
    in_rgb = np.repeat(given, 3, axis=-1)
    for bundle in (videomae_bundle, clip_bundle):
        with FeatureExtractor.open(bundle) as extractor:
            np.testing.assert_array_equal(extractor(given), extractor(in_rgb))


def test_short_and_long_clips_are_sampled(videomae_bundle: Path) -> None:
    given = clips(1, 9, 32, 32, 3)
    with FeatureExtractor.open(videomae_bundle) as extractor:
        assert extractor.clip_shape == (4, 32, 32, 3)
        np.testing.assert_array_equal(extractor(given), extractor(given[:, [0, 3, 5, 8]]))
        np.testing.assert_array_equal(extractor(given[:, :1]), extractor(given[:, [0, 0, 0, 0]]))


def test_streams_hold_one_batch_at_a_time(clip_bundle: Path) -> None:
    batches = [clips(n, 32, 32, 3) for n in (1, 2)]
    with FeatureExtractor.open(clip_bundle) as extractor:
        found = list(extractor.stream(iter(batches), pool="mean"))
    assert [one.shape for one in found] == [(1, 24), (2, 24)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((1, 4, 32, 32, 3), np.float32), r"don't fit.*found float32 \[1, 4, 32, 32, 3\]"),
        (np.zeros((1, 4, 3, 32, 32), np.uint8), r"found uint8 \[1, 4, 3, 32, 32\]"),
        (np.zeros((4, 32, 32, 3), np.uint8), r"expected uint8 \[batch, frames, height, width, 3\]"),
        (np.zeros((1, 4, 32, 32, 4), np.uint8), r"found uint8 \[1, 4, 32, 32, 4\]"),
        (np.zeros((1, 0, 32, 32, 3), np.uint8), "clips are empty"),
        (np.zeros((0, 4, 32, 32, 3), np.uint8), "clips are empty"),
        ([[1]], "must be a NumPy array"),
    ],
)
def test_what_is_no_clip_is_refused(videomae_bundle: Path, given: object, message: str) -> None:
    with (
        FeatureExtractor.open(videomae_bundle) as extractor,
        pytest.raises(InputError, match=message),
    ):
        extractor(given)


def test_an_unknown_pooling_is_refused(clip_bundle: Path) -> None:
    with (
        FeatureExtractor.open(clip_bundle) as extractor,
        pytest.raises(InputError, match=r"no pooling has this name: found 'max'.*none, mean"),
    ):
        extractor(clips(1, 32, 32, 3), pool="max")  # type: ignore[arg-type]


@pytest.mark.parametrize("door", [Tokenizer, Detokenizer])
def test_a_bundle_of_features_is_no_tokenizer(
    videomae_bundle: Path, door: type[Tokenizer | Detokenizer]
) -> None:
    with pytest.raises(BundleError, match=r"makes no tokens: found features.*`FeatureExtractor`"):
        door.open(videomae_bundle)


def test_a_tokenizer_without_features_says_how_to_get_them(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"no features graph.*trajectory-small --roles features"):
        FeatureExtractor.open(tiny_bundle)


@pytest.mark.parametrize("backend", ["native", "native-cuda"])
def test_the_native_backend_says_why_it_runs_none(videomae_bundle: Path, backend: str) -> None:
    with pytest.raises(BackendError, match=r"vision transformers|runs encoders only"):
        FeatureExtractor.open(videomae_bundle, backend=backend)


def test_it_is_pickled_and_closed(clip_bundle: Path) -> None:
    given = clips(2, 32, 32, 3)
    with FeatureExtractor.open(clip_bundle) as extractor:
        again = pickle.loads(pickle.dumps(extractor))
        np.testing.assert_array_equal(again(given), extractor(given))
        again.close()
    with pytest.raises(BackendError, match="closed"):
        extractor(given)


def test_it_survives_a_fork(clip_bundle: Path) -> None:
    given = clips(1, 32, 32, 3)
    with FeatureExtractor.open(clip_bundle) as extractor:
        here = extractor(given)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            np.testing.assert_array_equal(pool.apply(extractor, (given,)), here)
