"""How much of a vocabulary tokens use."""

import numpy as np
import pytest

from magvit_runtime.evaluation.code_use import CodeUse


def test_uniform_tokens_have_the_entropy_of_the_vocabulary() -> None:
    use = CodeUse(16)
    use.add(np.tile(np.arange(16, dtype=np.int32), (3, 2)).reshape(3, 4, 8))
    assert use.tokens == 96
    assert use.used().value == 1
    assert use.entropy().value == pytest.approx(4)
    assert use.entropy().low == pytest.approx(4)


def test_figures_are_of_all_clips_together() -> None:
    use = CodeUse(8)
    use.add(np.array([[0, 0, 1, 1]], np.int32))
    use.add(np.array([[2, 2, 3, 3]], np.int32))
    assert use.used().value == 0.5
    assert use.entropy().value == pytest.approx(2)


def test_clips_of_unequal_size_weigh_by_their_tokens() -> None:
    use = CodeUse(4)
    use.add(np.zeros((1, 6), np.int32))
    use.add(np.ones((1, 2), np.int32))
    expected = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    assert use.entropy().value == pytest.approx(expected)


def test_codes_that_one_clip_alone_has_widen_the_interval() -> None:
    shared, own = CodeUse(100), CodeUse(100)
    same = np.arange(10, dtype=np.int32)
    for i in range(5):
        shared.add(same[None])
        own.add((same + (10 * i if i < 4 else 0))[None])
    assert shared.used().low == shared.used().high == 0.1
    assert own.used().low < 0.4 < own.used().high


def test_the_interval_holds_what_more_clips_of_the_source_show() -> None:
    generator = np.random.default_rng(8)
    probabilities = generator.dirichlet(np.ones(64))
    use = CodeUse(64)
    use.add(generator.choice(64, (200, 256), p=probabilities).astype(np.int32))
    truth = -float(np.sum(probabilities * np.log2(probabilities)))
    entropy = use.entropy()
    assert entropy.low < truth < entropy.high
    assert entropy.high - entropy.low < 0.05
