"""A model's keys behind what training tools put around them, and which of several is read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from seeded_checkpoints import TINY, ema_tensors, load_encoder_weights, model_shapes, raw_tensors
from torch import Tensor

from magvit_export.checkpoints.reading import CheckpointError, Variant

SHAPES = model_shapes(TINY)
RAW = raw_tensors(SHAPES)
EMA = ema_tensors(SHAPES)
AVERAGE = {key: EMA["model_ema." + key.replace(".", "")] for key in SHAPES}
BARE = {k.removeprefix("encoder."): v for k, v in RAW.items() if k.startswith("encoder.")}
OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}


def same(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return state.keys() == expected.keys() and all(
        torch.equal(value, expected[key]) for key, value in state.items()
    )


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in tensors.items()}


def inside(group: str, level: str) -> dict[str, Tensor]:
    return {key.replace(f"{group}.", f"{group}.{level}.", 1): v for key, v in RAW.items()}


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], Path]:
    def write(content: object) -> Path:
        torch.save(content, tmp_path / "model.ckpt")
        return tmp_path / "model.ckpt"

    return write


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (prefixed(RAW, "module."), "module.*"),
        (prefixed(RAW, "tokenizer.vq."), "tokenizer.vq.*"),
        (prefixed(RAW, "0."), "0.*"),
        (prefixed(RAW, "encoder."), "encoder.*"),
        (prefixed(RAW, "module.model._orig_mod."), "module.model._orig_mod.*"),
        (prefixed(RAW, "module.") | {"n_averaged": torch.tensor(3)}, "module.*"),
        (prefixed(RAW, "first_stage_model.") | {"transformer.w": torch.zeros(2)}, "first_stage_"),
        ({"model": RAW, "optimizer": OPTIMIZER, "epoch": 3, "args": None}, "model.*"),
        ({"module": RAW, "ds_version": "0.14"}, "module.*"),
        ({"checkpoint": {"net": {"weights": prefixed(RAW, "module.")}}}, "checkpoint.net.weights."),
        ({"state_dict": prefixed(RAW, "net."), "callbacks": {"a": {"b": 1}}}, "state_dict.net.*"),
        (inside("encoder", "_orig_mod"), "keys such as encoder._orig_mod.conv_in.conv_1.weight"),
        (inside("encoder", "backbone"), "keys such as encoder.backbone.conv_in.conv_1.weight"),
        (
            {
                "_fsdp_wrapped_module."
                + key.replace("block.0.", "block.0._checkpoint_wrapped_module."): value
                for key, value in RAW.items()
            },
            "keys such as _fsdp_wrapped_module.",
        ),
    ],
)
def test_what_stands_around_the_keys_is_passed_over_and_told(
    save: Callable[[object], Path], caplog: pytest.LogCaptureFixture, content: object, place: str
) -> None:
    path = save(content)
    with caplog.at_level(logging.WARNING):
        loaded = load_encoder_weights(path, SHAPES)
    assert same(loaded.state, RAW)
    assert caplog.messages[0] == f"{path} has no EMA weights: its raw weights are used"
    assert caplog.messages[1].startswith(f"{path}: the raw weights are read from {place}")


@pytest.mark.parametrize(
    "content",
    [RAW, {"state_dict": RAW, "epoch": 3}, {**RAW, "epoch": 3, "note": "x"}, {**RAW, **EMA}],
    ids=["bare", "Lightning", "numbers beside", "published"],
)
def test_nothing_is_told_of_files_as_they_are_published(
    save: Callable[[object], Path], caplog: pytest.LogCaptureFixture, content: object
) -> None:
    with caplog.at_level(logging.WARNING):
        load_encoder_weights(save(content), SHAPES, "raw")
    assert caplog.messages == []


def test_state_dicts_of_the_parts(save: Callable[[object], Path]) -> None:
    parts = {
        group: {k.removeprefix(f"{group}."): v for k, v in RAW.items() if k.startswith(group)}
        for group in ("encoder", "decoder")
    }
    path = save(parts | {"discriminator": {"main.0.weight": torch.zeros(2)}})
    assert same(load_encoder_weights(path, SHAPES).state, RAW)


@pytest.mark.parametrize(
    "content",
    [
        BARE,
        {"state_dict": BARE, "optimizer": OPTIMIZER},
        prefixed(BARE, "module."),
        {"encoder_state": prefixed(BARE, "_orig_mod.")},
        {key.replace(".", "/"): value for key, value in BARE.items()},
    ],
    ids=["alone", "in an entry", "DDP", "compiled, in an entry", "slashes"],
)
def test_an_encoder_by_its_own_names(
    save: Callable[[object], Path], caplog: pytest.LogCaptureFixture, content: object
) -> None:
    path = save(content)
    with caplog.at_level(logging.WARNING):
        loaded = load_encoder_weights(path, SHAPES)
    assert same(loaded.state, {k: v for k, v in RAW.items() if k.startswith("encoder.")})
    assert caplog.messages[0].startswith(f"{path} holds the keys of one part alone: read as ")


@pytest.mark.parametrize("change", ["a key more", "another size"])
def test_an_encoder_by_its_own_names_fits_fully_or_not_at_all(
    save: Callable[[object], Path], change: str
) -> None:
    first = next(iter(BARE))
    changed = {"more": torch.zeros(2)} if change == "a key more" else {first: torch.zeros(2)}
    with pytest.raises(CheckpointError, match="Fix: save the state dict of the whole model"):
        load_encoder_weights(save(BARE | changed), SHAPES)


@pytest.mark.parametrize("around", ["", "model/", "module."])
@pytest.mark.parametrize("tensors", [RAW, EMA], ids=["raw", "EMA"])
def test_slashes_between_levels(
    save: Callable[[object], Path], around: str, tensors: dict[str, Tensor]
) -> None:
    content = {around + key.replace(".", "/"): value for key, value in tensors.items()}
    loaded = load_encoder_weights(save(content), SHAPES)
    assert same(loaded.state, AVERAGE if tensors is EMA else RAW)


def test_two_tensors_of_one_name_are_no_choice(save: Callable[[object], Path]) -> None:
    key = next(iter(RAW))
    content = RAW | {key.replace(".", "/"): torch.zeros(1)}
    with pytest.raises(CheckpointError, match=f"holds two tensors of one name: found {key}"):
        load_encoder_weights(save(content), SHAPES)


def renamed_ema(prefix: str) -> dict[str, Tensor]:
    """As the reference's class makes it of a model whose keys have a prefix."""
    kept = {"model_ema.decay", "model_ema.num_updates"}
    undotted = prefix.replace(".", "")
    return {
        name if name in kept else name.replace("model_ema.", f"model_ema.{undotted}"): value
        for name, value in EMA.items()
    }


@pytest.mark.parametrize(
    "content",
    [
        {"model": RAW, "ema": AVERAGE},
        {"state_dict": RAW, "state_dict_ema": AVERAGE},
        {"net": prefixed(RAW, "module."), "ema_model": prefixed(AVERAGE, "module.")},
        {"params": RAW, "params_ema": AVERAGE},
        {**prefixed(RAW, "online."), **prefixed(AVERAGE, "ema.")},
        {"state_dict": prefixed(RAW, "model.") | renamed_ema("model.")},
        {"state_dict": prefixed(RAW, "_orig_mod.") | renamed_ema("_orig_mod.")},
        {"state_dict": prefixed(RAW, "module.") | prefixed(EMA, "module.")},
        {
            "state_dict": prefixed(RAW, "model.")
            | renamed_ema("model.")
            | {"loss.a": torch.zeros(2), "model_ema.lossa": torch.zeros(2)}
        },
    ],
)
@pytest.mark.parametrize("variant", [None, "ema", "raw"])
def test_ema_is_taken_where_there_is_one_and_raw_on_request(
    save: Callable[[object], Path], content: object, variant: Variant | None
) -> None:
    loaded = load_encoder_weights(save(content), SHAPES, variant)
    assert loaded.variant == (variant or "ema")
    assert same(loaded.state, RAW if variant == "raw" else AVERAGE)


def test_what_was_left_is_told(
    save: Callable[[object], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = save({"model": RAW, "ema": AVERAGE})
    with caplog.at_level(logging.WARNING):
        load_encoder_weights(path, SHAPES)
    message = f"{path}: the ema weights are read from ema.*; those of model.* are left"
    assert caplog.messages == [message]


def test_the_usual_entry_is_taken_before_others(
    save: Callable[[object], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = save({"best": AVERAGE, "model": AVERAGE, "state_dict": RAW})
    with caplog.at_level(logging.WARNING):
        assert same(load_encoder_weights(path, SHAPES).state, RAW)
    assert "read from state_dict.*; those of best.*, model.* are left" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        {"student": RAW, "teacher": AVERAGE},
        {**prefixed(RAW, "student."), **prefixed(AVERAGE, "teacher.")},
    ],
)
def test_of_equals_none_is_taken(save: Callable[[object], Path], content: object) -> None:
    path = save(content)
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(path, SHAPES)
    assert str(error.value) == (
        f"{path} holds this model's raw weights more than once: found student, teacher. "
        "Fix: save the one that is meant as a state dict of its own"
    )


def test_two_levels_inside_are_no_choice(save: Callable[[object], Path]) -> None:
    both = inside("encoder", "a") | inside("encoder", "b")
    with pytest.raises(CheckpointError, match="save the state dict of the whole model, whose keys"):
        load_encoder_weights(save(both), SHAPES)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.conv_in.conv_1.lora_A.weight",
        "encoder._orig_mod.conv_in.conv_1.weight",
        "encoder.conv_in.conv_1.parametrizations.weight.original",
        "encoder.quant_conv.weight",
    ],
)
def test_what_lies_among_the_keys_is_never_passed_over(
    save: Callable[[object], Path], name: str
) -> None:
    with pytest.raises(CheckpointError, match=f"keys that this model doesn't have: found {name}"):
        load_encoder_weights(save(RAW | {name: torch.zeros(2)}), SHAPES)


def test_what_a_parametrization_made_of_a_weight_isnt_that_weight(
    save: Callable[[object], Path],
) -> None:
    key = "encoder.conv_in.conv_1.weight"
    changed = dict(RAW)
    changed["encoder.conv_in.conv_1.parametrizations.weight.original"] = changed.pop(key)
    with pytest.raises(CheckpointError, match="parametrizations"):
        load_encoder_weights(save(changed), SHAPES)


def test_keys_that_are_missing_under_a_prefix(save: Callable[[object], Path]) -> None:
    tensors = prefixed(RAW, "module.")
    for key in list(tensors)[:4]:
        del tensors[key]
    path = save({"state_dict": tensors})
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(path, SHAPES)
    first = ", ".join(list(RAW)[:3])
    assert str(error.value) == (
        f"{path} lacks 4 raw keys under state_dict.module.*: found {len(RAW) - 4} of {len(RAW)}, "
        f"expected {first} and 1 more. "
        "Fix: save the whole model: torch.save(model.state_dict(), 'model.pt')"
    )


@pytest.mark.parametrize(
    ("content", "mend"),
    [
        (prefixed(RAW, "net_"), "save them without 'net_': torch.save({key.removeprefix('net_'): "),
        (
            dict(list(BARE.items())[1:]),
            "save the state dict of the whole model, whose keys begin with 'encoder.'",
        ),
        (
            {"features.0.weight": torch.zeros(2)},
            "name the model (or --config) that the checkpoint was trained with",
        ),
    ],
)
def test_where_no_key_fits_the_error_says_what_to_do(
    save: Callable[[object], Path], content: dict[str, Tensor], mend: str
) -> None:
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(save(content), SHAPES)
    assert f"found {next(iter(content))}" in str(error.value)
    assert f"Fix: {mend}" in str(error.value)


def test_a_file_without_end(save: Callable[[object], Path]) -> None:
    """Dicts that lie in one another many times over."""
    content: dict[str, object] = {"x": torch.zeros(1)}
    for _ in range(30):
        content = {"a": content, "b": content}
    with pytest.raises(CheckpointError, match="is no checkpoint: found over 200000 entries"):
        load_encoder_weights(save(content), SHAPES)
