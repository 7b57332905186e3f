"""Options of a tokenizer's training: what they mean, and what is refused."""

from __future__ import annotations

import pytest
from seeded_checkpoints import SMALL, TINY

from magvit_export.training.tokenizer.options import Stage, TokenizerOptions, check_sizes
from magvit_runtime.errors import InputError


def test_stages_follow_each_other() -> None:
    options = TokenizerOptions(stages="64:2, 128:1")
    assert options.plan == (Stage(64, 2), Stage(128, 1))
    assert options.steps == 3
    assert [options.stage_of(step) for step in range(3)] == [
        (Stage(64, 2), 0),
        (Stage(64, 2), 1),
        (Stage(128, 1), 0),
    ]
    with pytest.raises(IndexError):
        options.stage_of(3)


@pytest.mark.parametrize("text", ["", "64", "64:", "64x3", "64:3,", "-64:3", "64:3;128:3", "٦٤:3"])
def test_stages_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError) as error:
        TokenizerOptions(stages=text)
    assert str(error.value) == (
        f"`stages` can't be read: found {text!r}, "
        "expected SIZE:STEPS of each stage, as 64:5000,128:500"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": "64:0"}, "`stages` is out of range: found 64:0, expected steps of at least 1"),
        ({"stages": "64:99999999"}, "`stages` is out of range: found 64:99999999"),
        ({"batch": 0}, "`batch` is out of range: found 0, expected 1 to 4096"),
        ({"learning_rate": 0.0}, "`learning_rate` is out of range: found 0.0"),
        ({"learning_rate": float("nan")}, "`learning_rate` is out of range: found nan"),
        ({"decay": 1.0}, "`decay` is out of range: found 1.0, expected 0 to 0.999999"),
        ({"drawn": 1.5}, "`drawn` is out of range: found 1.5, expected 0 to 1"),
        ({"variety": -1.0}, "`variety` is out of range: found -1.0, expected 0 to 1000"),
        ({"seed": -1}, "`seed` is out of range: found -1"),
        ({"every": 0}, "`every` is out of range: found 0"),
        ({"precision": "fp16"}, "`precision` is unknown: found fp16, expected fp32, bf16"),
    ],
)
def test_options_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        TokenizerOptions(**options)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"stages": "60:3"},
            "a stage's size can't be trained on: found 60, expected a multiple of 8",
        ),
        ({"stages": "64:3,8:3"}, "a stage's size can't be trained on: found 8"),
        ({"stages": "2048:3"}, "a stage's size can't be trained on: found 2048"),
        ({"frames": 16}, "`frames` can't be decoded again: found 16, expected 1 more than a mul"),
    ],
)
def test_sizes_that_the_model_does_not_give_back(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        check_sizes(TokenizerOptions(**options), SMALL)
    assert str(error.value).startswith(message)


def test_sizes_that_it_gives_back() -> None:
    check_sizes(TokenizerOptions(stages="16:1,64:1,128:1", frames=17), SMALL)
    check_sizes(TokenizerOptions(stages="18:1", frames=4), TINY)
