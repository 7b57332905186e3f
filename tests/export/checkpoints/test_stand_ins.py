"""Pickles with more than tensors: those are read, and nothing of the rest is loaded or run."""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import enum
import functools
import logging
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from seeded_checkpoints import TINY, load_encoder_weights, model_shapes, raw_tensors
from torch import Tensor

from magvit_export.checkpoints.reading import CheckpointError
from magvit_export.families.magvit.tokenizer import MagvitTokenizer

SHAPES = model_shapes(TINY)
RAW = raw_tensors(SHAPES)


def is_raw(state: dict[str, Tensor]) -> bool:
    return state.keys() == RAW.keys() and all(torch.equal(state[key], RAW[key]) for key in RAW)


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, tuple[type, ...]], type]:
    """Makes classes of packages that are gone when the file is read."""

    def make(name: str, bases: tuple[type, ...] = ()) -> type:
        module, _, short = name.rpartition(".")
        kind = type(short, bases, {"__module__": module})
        for parent in (module.partition(".")[0], module):
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        setattr(sys.modules[module], short, kind)
        return kind

    return make


class Metric(enum.Enum):
    LOSS = "loss"


def callback() -> object:
    """State as callbacks and loggers have it; it holds itself."""
    state = argparse.Namespace(paths={pathlib.PurePosixPath("a"): 1}, best=np.float64(0.5))
    state.itself = [state]
    return {
        "state": state,
        "scores": collections.defaultdict(list, a=[1]),
        "last": collections.deque([1, 2], maxlen=2),
        "kinds": frozenset([Metric.LOSS]),
        "by_kind": {Metric.LOSS: 1},
        "hook": functools.partial(max, 1),
        "when": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        "generator": np.random.default_rng(0),
        "large": 2**3000,
        "set": {1, 2},
        "bytes": b"\x00\xff",
    }


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "older"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_training_dump_with_objects_of_all_kinds(
    tmp_path: Path, as_zip: bool, protocol: int
) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(
        {"callbacks": callback(), "state_dict": RAW, "epoch": 3},
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=as_zip,
    )
    assert is_raw(load_encoder_weights(path, SHAPES).state)


def test_classes_of_packages_that_arent_installed(
    tmp_path: Path, foreign: Callable[..., type], caplog: pytest.LogCaptureFixture
) -> None:
    config = foreign("omegaconf.dictconfig.DictConfig")()
    config._content = {"ch": 32}
    settings = foreign("easydict.EasyDict", (dict,))(lr=1e-4)
    path = tmp_path / "last.ckpt"
    torch.save({"hyper_parameters": [config, settings], "state_dict": RAW}, path)
    with caplog.at_level(logging.WARNING):
        assert is_raw(load_encoder_weights(path, SHAPES).state)
    assert caplog.messages[0] == (
        f"{path} holds more than tensors (easydict.EasyDict, omegaconf.dictconfig.DictConfig): "
        "none of that was loaded or run"
    )


def test_a_state_dict_in_a_dict_of_a_foreign_class(
    tmp_path: Path, foreign: Callable[..., type]
) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"model": foreign("munch.Munch", (dict,))(RAW)}, path)
    assert is_raw(load_encoder_weights(path, SHAPES).state)


def test_a_state_dict_that_is_an_attribute(tmp_path: Path, foreign: Callable[..., type]) -> None:
    state = foreign("trainers.TrainState")()
    state.step, state.weights = 3, RAW
    path = tmp_path / "last.ckpt"
    torch.save(state, path)
    assert is_raw(load_encoder_weights(path, SHAPES).state)


@pytest.mark.parametrize("wrap", [torch.nn.Module.eval, torch.nn.DataParallel])
def test_a_module_that_was_saved_whole(
    tmp_path: Path, wrap: Callable[[torch.nn.Module], torch.nn.Module]
) -> None:
    model = MagvitTokenizer(TINY)
    model.load_state_dict(RAW)
    path = tmp_path / "model.pt"
    torch.save(wrap(model), path)
    assert is_raw(load_encoder_weights(path, SHAPES).state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_parameters_keep_their_values_and_types(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "model.pt"
    halves = {key: torch.nn.Parameter(value.to(dtype)) for key, value in RAW.items()}
    torch.save({"weights": halves, "args": argparse.Namespace()}, path)
    state = load_encoder_weights(path, SHAPES).state
    assert all(torch.equal(state[key], halves[key].float()) for key in RAW)


class Call:
    """Unpickling it calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


def zip_file(content: object, path: Path) -> None:
    torch.save(content, path)


def older_file(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


ATTACKS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "posix.system": (os.system, ("touch {}",)),
    "posix.mkdir": (os.mkdir, ("{}",)),
    "builtins.exec": (exec, ("open({!r}, 'w')",)),
    "builtins.__import__": (__import__, ("antigravity",)),
    "subprocess.call": (subprocess.call, (["touch", "{}"],)),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("write", [zip_file, older_file, plain_pickle])
@pytest.mark.parametrize("name", ATTACKS)
def test_what_only_an_attack_calls_is_named(
    tmp_path: Path, name: str, write: Callable[[object, Path], None]
) -> None:
    proof = tmp_path / "was_run"
    function, arguments = ATTACKS[name]
    filled = [
        [part.format(proof) for part in argument]
        if isinstance(argument, list)
        else argument.format(str(proof))
        for argument in arguments
    ]
    path = tmp_path / "model.ckpt"
    write({"state_dict": RAW, "x": Call(function, *filled)}, path)
    with pytest.raises(CheckpointError, match=f"none of it was run: found {name}"):
        load_encoder_weights(path, SHAPES)
    assert not proof.exists()


@pytest.mark.parametrize("write", [zip_file, older_file, plain_pickle])
def test_other_calls_do_nothing(tmp_path: Path, write: Callable[[object, Path], None]) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    calls = [
        Call(shutil.rmtree, str(kept)),
        Call(webbrowser.open, "http://127.0.0.1"),
        Call(Path.rmdir, kept),
        Call(getattr, kept, "rmdir"),
        Call(functools.reduce, max, [1]),
        Call(torch.load, str(kept)),
        Call(np.load, str(kept)),
    ]
    path = tmp_path / "model.ckpt"
    write({"state_dict": RAW, "x": calls}, path)
    assert is_raw(load_encoder_weights(path, SHAPES).state)
    assert kept.exists()


def test_a_storage_of_a_plain_pickle_is_no_other_file(tmp_path: Path) -> None:
    """It could be a TorchScript program, which torch runs as it loads it."""
    path = tmp_path / "model.pkl"
    attack = Call(torch.storage._load_from_bytes, b"PK\x03\x04")
    path.write_bytes(pickle.dumps({"state_dict": RAW, "x": attack}))
    with pytest.raises(CheckpointError, match="a storage is no zip archive"):
        load_encoder_weights(path, SHAPES)


def test_a_pickle_changes_nothing_of_what_rebuilds_tensors(tmp_path: Path) -> None:
    """BUILD sets attributes of what it is given, were it not for stand-ins."""
    rebuild = torch._utils._rebuild_tensor_v2
    named = pickle.PROTO + b"\x02" + pickle.GLOBAL + b"torch._utils\n_rebuild_tensor_v2\n"
    state = pickle.NONE + pickle.dumps({"__defaults__": (1,)}, 2)[2:-1] + pickle.TUPLE2
    path = tmp_path / "model.pkl"
    path.write_bytes(named + state + pickle.BUILD + pickle.STOP)
    with pytest.raises(CheckpointError):
        load_encoder_weights(path, SHAPES)
    assert torch._utils._rebuild_tensor_v2 is rebuild
    assert rebuild.__defaults__ == (None,)
