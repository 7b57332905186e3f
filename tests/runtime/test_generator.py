"""Classes in, token ids out: against the original implementation's values, and in every use."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_runtime import BackendError, BundleError, Detokenizer, Generator, InputError
from magvit_runtime.backends.onnx_runtime.cache_state import CacheState
from magvit_runtime.sampling import Sampling

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "ar_small.npz")
POSITIONS = 16
CASES = ("plain", "guided", "hot", "cut")


@pytest.fixture(scope="module")
def large_grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The context of 12 x 12 tokens: more than a cache gives the graph at first."""
    from magvit_export.catalog import find_model
    from magvit_export.exporting import export_model
    from magvit_export.families.autoregressive.config import AutoregressiveConfig

    path = tmp_path_factory.mktemp("large") / "bundle"
    config = AutoregressiveConfig(
        block_size=144, spatial_n_layer=1, factorized_n_layer=1, n_head=2, dim=32, cond_dim=32
    )
    export_model(find_model("open-magvit2-ar-b"), path, weights="seeded", config=config)
    return path


@pytest.fixture(scope="module")
def generator(ar_bundle: Path) -> Iterator[Generator]:
    with Generator.open(ar_bundle) as generator:
        yield generator


def golden_ids() -> NDArray[np.int32]:
    ids: NDArray[np.int32] = (GOLDEN["pre"] + 64 * GOLDEN["post"]).astype(np.int32)
    return ids.reshape(2, 4, 4)


def uniforms_of(count: int, seed: int = 5) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random((count, POSITIONS, 2))


def test_teacher_forced_logits_are_the_references(generator: Generator) -> None:
    pre, post = generator.logits(GOLDEN["cls"][:, 0], golden_ids())
    np.testing.assert_allclose(pre, GOLDEN["logits_pre"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(post[..., :128], GOLDEN["logits_post_first128"], atol=2e-5, rtol=0)
    sums = np.log(np.exp(post.astype(np.float64)).sum(-1))
    np.testing.assert_allclose(sums, GOLDEN["logits_post_lse"], atol=2e-5, rtol=0)
    np.testing.assert_array_equal(post.argmax(-1), GOLDEN["logits_post_argmax"])


def test_step_by_step_with_the_cache_gives_the_teacher_forced_logits(generator: Generator) -> None:
    """Positions one by one, and all of them in one run, where the cache is empty."""
    classes, ids = GOLDEN["cls"][:, 0].astype(np.int32), golden_ids().reshape(2, -1)
    before = np.concatenate((np.zeros((2, 1), np.int32), ids[:, :-1]), axis=1)
    context = generator._context
    at_once = context.run(
        {"classes": classes, "ids": before}, "hidden", context.new_state(2, POSITIONS)
    )
    state = context.new_state(2, POSITIONS)
    for position in range(POSITIONS):
        fed = {"classes": classes, "ids": before[:, position, None]}
        hidden = context.run(fed, "hidden", state)
        np.testing.assert_allclose(hidden[:, 0], at_once[:, position], atol=1e-5, rtol=0)
    assert state.position == POSITIONS


@pytest.mark.parametrize("case", CASES)
def test_sampled_runs_are_the_references_token_for_token(generator: Generator, case: str) -> None:
    settings = json.loads(str(GOLDEN[f"sample_{case}.settings"]))
    numbers = np.ascontiguousarray(GOLDEN[f"sample_{case}.uniforms"].transpose(2, 0, 1))
    ids = generator(GOLDEN[f"sample_{case}.classes"], uniforms=numbers, **settings)
    expected = GOLDEN[f"sample_{case}.pre"] + 64 * GOLDEN[f"sample_{case}.post"]
    np.testing.assert_array_equal(ids.reshape(2, -1), expected)


def test_ids_are_those_that_a_detokenizer_takes(ar_bundle: Path, generator: Generator) -> None:
    ids = generator([1, 2, 3], seed=4)
    assert ids.dtype == np.int32
    assert ids.shape == (3, *generator.grid) == (3, 4, 4)
    with Detokenizer.open(ar_bundle) as detokenizer:
        assert detokenizer(ids).shape == (3, 8, 8, 3)


def test_a_batch_of_mixed_classes_gives_what_single_calls_give(ar_bundle: Path) -> None:
    classes, numbers = [9, 0, 3, 3, 7], uniforms_of(5)
    numbers[3] = numbers[2]
    for batch_size in (1, 2, 8):
        with Generator.open(ar_bundle, batch_size=batch_size) as generator:
            together = generator(classes, uniforms=numbers)
            singly = [
                generator([one], uniforms=numbers[i, None])[0] for i, one in enumerate(classes)
            ]
        np.testing.assert_array_equal(together, singly)
        np.testing.assert_array_equal(together[2], together[3])


def test_a_seed_stands_for_its_numbers_however_many_images_follow(generator: Generator) -> None:
    three = generator([5, 6, 7], seed=11)
    np.testing.assert_array_equal(generator([5], seed=11), three[:1])
    np.testing.assert_array_equal(generator([5, 6, 7], uniforms=generator.draw(3, 11)), three)
    assert not np.array_equal(generator([5, 6, 7], seed=12), three)


def test_a_stream_gives_the_rows_of_the_images(generator: Generator) -> None:
    rows = list(generator.stream([5, 6], seed=3, guidance=(0.0, 0.0)))
    assert [row.shape for row in rows] == [(2, 4)] * 4
    expected = generator([5, 6], seed=3, guidance=(0.0, 0.0))
    np.testing.assert_array_equal(np.stack(rows, axis=1), expected)


def test_a_stream_that_is_left_costs_nothing(generator: Generator) -> None:
    stream = generator.stream([5], seed=3)
    next(stream)
    stream.close()
    assert generator([5], seed=3).shape == (1, 4, 4)


def test_defaults_are_the_models_own(generator: Generator) -> None:
    assert generator.sampling == Sampling(guidance=(1.9, 2.0))
    numbers = uniforms_of(2)
    np.testing.assert_array_equal(
        generator([1, 2], uniforms=numbers),
        generator([1, 2], uniforms=numbers, guidance=(1.9, 2.0), temperature=(1.0, 1.0)),
    )


@pytest.mark.parametrize("guidance", [(0.0, 0.0), (0.99, 0.5), (1.0, 1.0)])
def test_guidance_up_to_1_is_off(generator: Generator, guidance: tuple[float, float]) -> None:
    numbers = uniforms_of(2)
    np.testing.assert_array_equal(
        generator([1, 2], uniforms=numbers, guidance=guidance),
        generator([1, 2], uniforms=numbers, guidance=(0.0, 0.0)),
    )


def test_guidance_of_one_part_alone_changes_that_part(generator: Generator) -> None:
    numbers = uniforms_of(8)
    off = generator(range(8), uniforms=numbers, guidance=(0.0, 0.0))
    of_second = generator(range(8), uniforms=numbers, guidance=(0.0, 8.0))
    # Of the first token, the first part depends on nothing that guidance changed.
    np.testing.assert_array_equal(of_second[:, 0, 0] % 64, off[:, 0, 0] % 64)
    assert not np.array_equal(of_second, off)


def test_greedy_choice_needs_no_numbers(generator: Generator) -> None:
    first = generator([4], seed=1, temperature=(0.0, 0.0))
    np.testing.assert_array_equal(generator([4], seed=2, temperature=(0.0, 0.0)), first)
    np.testing.assert_array_equal(generator([4], seed=2, top_k=(1, 1)), first)


def test_the_cache_stays_where_it_is(generator: Generator) -> None:
    """The graph reads the very memory that new rows are written to."""
    state = generator._context.new_state(1, POSITIONS)
    assert isinstance(state, CacheState)
    places = {name: cache.ctypes.data for name, cache in state._caches.items()}
    for _ in range(3):
        fed = {"classes": np.zeros(1, np.int32), "ids": np.zeros((1, 1), np.int32)}
        generator._context.run(fed, "hidden", state)
    assert {name: cache.ctypes.data for name, cache in state._caches.items()} == places
    for cache in state._caches.values():
        assert cache[:, :, 3:].max() == 0
    # The class's keys are turned to zero.
    assert state._caches["values.0"][:, :, :3].all()
    assert not state._caches["keys.0"][:, :, 0].any()
    assert state._caches["keys.0"][:, :, 1:3].all()


def test_a_cache_that_is_given_more_rows_keeps_what_it_holds(large_grid: Path) -> None:
    """In one run the graph sees no cache; position by position it sees 64, 128 and 144 rows."""
    ids = np.random.default_rng(0).integers(0, 2**18, (3, 144)).astype(np.int32)
    classes = np.array([0, 5, 999], np.int32)
    with Generator.open(large_grid) as generator:
        context = generator._context
        at_once = context.run({"classes": classes, "ids": ids}, "hidden", context.new_state(3, 144))
        state = context.new_state(3, 144)
        places = {name: memory.ctypes.data for name, memory in state._memory.items()}  # type: ignore[attr-defined]
        for position in range(144):
            fed = {"classes": classes, "ids": ids[:, position, None]}
            hidden = context.run(fed, "hidden", state)
            np.testing.assert_allclose(hidden[:, 0], at_once[:, position], atol=1e-5, rtol=0)
        assert {name: c.ctypes.data for name, c in state._caches.items()} == places  # type: ignore[attr-defined]
        with pytest.raises(BackendError, match="this state is full"):
            context.run(fed, "hidden", state)


def test_many_generations_run_on_one_session_at_once(generator: Generator) -> None:
    expected = [generator([i % 10], seed=i) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: generator([i % 10], seed=i), range(8)))
    np.testing.assert_array_equal(found, expected)


def test_streams_may_be_interleaved(generator: Generator) -> None:
    streams = [generator.stream([one], seed=one) for one in (2, 8)]
    rows = [[next(stream) for stream in streams] for _ in range(4)]
    for i, one in enumerate((2, 8)):
        found = np.stack([row[i] for row in rows], axis=1)
        np.testing.assert_array_equal(found, generator([one], seed=one))


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ([10], "no such class: found 10, expected 0 to 9"),
        ([3, -1], "no such class: found -1"),
        ([2**40], "no such class"),
        ([], "list of classes"),
        ([1.0], "list of classes"),
        ([[1]], "list of classes"),
        (["a"], "list of classes"),
        ([True], "list of classes"),
    ],
)
def test_classes_out_of_range_are_refused(generator: Generator, classes: Any, words: str) -> None:
    for call in (generator, generator.stream):
        with pytest.raises(InputError, match=words):
            call(classes)


def test_the_null_class_is_one_for_logits_alone(generator: Generator) -> None:
    ids = golden_ids()[:1]
    assert generator.logits([10], ids)[0].shape == (1, POSITIONS, 64)
    with pytest.raises(InputError, match="0 to 10"):
        generator.logits([11], ids)


@pytest.mark.parametrize(
    "ids",
    [
        golden_ids()[:1].astype(np.int64),
        golden_ids(),
        golden_ids()[:1, :3],
        np.full((1, 4, 4), 2**18, np.int32),
        np.full((1, 4, 4), -1, np.int32),
        [[1]],
    ],
)
def test_ids_that_do_not_fit_are_refused(generator: Generator, ids: Any) -> None:
    with pytest.raises(InputError, match="ids"):
        generator.logits([1], ids)


@pytest.mark.parametrize(
    "uniforms",
    [
        uniforms_of(2),
        uniforms_of(1).astype(np.float32),
        uniforms_of(1)[..., :1],
        np.ones((1, POSITIONS, 2)),
        np.full((1, POSITIONS, 2), -0.1),
        np.full((1, POSITIONS, 2), np.nan),
        [0.5],
    ],
)
def test_numbers_that_do_not_fit_are_refused(generator: Generator, uniforms: Any) -> None:
    with pytest.raises(InputError, match="uniforms"):
        generator([1], uniforms=uniforms)


def test_options_out_of_range_are_refused(ar_bundle: Path, generator: Generator) -> None:
    with pytest.raises(InputError, match="seed"):
        generator([1], seed=-1)
    with pytest.raises(InputError, match="batch_size"):
        Generator.open(ar_bundle, batch_size=0)
    with pytest.raises(InputError, match="no backend is named"):
        Generator.open(ar_bundle, backend="torch")


def test_numbers_at_both_ends_generate(generator: Generator) -> None:
    ends = np.stack([np.zeros((POSITIONS, 2)), np.full((POSITIONS, 2), np.nextafter(1.0, 0.0))])
    ids = generator([1, 1], uniforms=ends, guidance=(0.0, 0.0))
    assert (ids[0] == 0).all()
    assert (ids[1] == 2**18 - 1).all()


def test_a_tokenizers_bundle_generates_nothing(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"generates nothing.*Fix: export"):
        Generator.open(tiny_bundle)


def test_weights_of_8_bits_agree(ar_bundle: Path, generator: Generator) -> None:
    ids = golden_ids()
    with Generator.open(ar_bundle, precision="int8") as eight_bits:
        assert eight_bits.capabilities.precision == "int8"
        found = eight_bits.logits([1, 2], ids)
    for ours, exact in zip(found, generator.logits([1, 2], ids), strict=True):
        error = np.sqrt(np.mean((ours - exact) ** 2)) / exact.std()
        assert 1e-4 < error < 0.1


def test_the_native_backend_says_that_it_has_no_transformers(ar_bundle: Path) -> None:
    with pytest.raises(BackendError, match="no transformers"):
        Generator.open(ar_bundle, backend="native")


def test_a_closed_generator_says_so(ar_bundle: Path) -> None:
    generator = Generator.open(ar_bundle)
    generator.close()
    generator.close()
    with pytest.raises(BackendError, match="closed"):
        generator([1])


def test_it_can_be_pickled(generator: Generator) -> None:
    with pickle.loads(pickle.dumps(generator)) as again:
        np.testing.assert_array_equal(again([3], seed=2), generator([3], seed=2))


def test_it_works_in_a_forked_process(generator: Generator) -> None:
    expected = generator([3], seed=2)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child() -> None:
        sender.send(generator([3], seed=2))

    process = context.Process(target=child)
    process.start()
    assert receiver.poll(60)
    np.testing.assert_array_equal(receiver.recv(), expected)
    process.terminate()
    process.join()
