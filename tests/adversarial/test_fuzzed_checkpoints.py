"""Checkpoints that were damaged, or made to do harm: the right shapes, or a CheckpointError.

None of their code runs. A fault names its family and number, which are its seed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import zipfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from adversarial.mutations import damaged, random_place, random_value
from adversarial.watchdog import Case, run_cases
from numpy.random import Generator
from safetensors.torch import save

SHAPES = {"encoder.a.weight": (4, 3), "encoder.b.bias": (7,)}
TENSORS = {key: torch.ones(shape) for key, shape in SHAPES.items()}


def saved(content: object, *, as_zip: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=as_zip)
    return file.getvalue()


def zip_files(_: Path) -> bytes:
    return saved({"state_dict": TENSORS})


def legacy_files(_: Path) -> bytes:
    return saved({"state_dict": TENSORS}, as_zip=False)


def safetensors(_: Path) -> bytes:
    return save(TENSORS)


OPCODES = np.frombuffer(
    b"".join(code for code in vars(pickle).values() if isinstance(code, bytes) and len(code) == 1),
    np.uint8,
)


class Call:
    """Unpickling it calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def attack(outside: Path) -> dict[str, object]:
    proof = str(outside / "was_run")
    calls = [
        Call(os.system, f"touch {proof}"),
        Call(os.mkdir, proof),
        Call(eval, f"open({proof!r}, 'w')"),
        Call(open, proof, "w"),
    ]
    return {**TENSORS, **{f"encoder.{i}": call for i, call in enumerate(calls)}}


def zip_files_with_code(outside: Path) -> bytes:
    return saved(attack(outside))


def legacy_files_with_code(outside: Path) -> bytes:
    return saved(attack(outside), as_zip=False)


def pickles_with_code(outside: Path) -> bytes:
    return pickle.dumps(attack(outside), 2)


def training_dump() -> dict[str, object]:
    """What torch's restricted unpickler refuses, and stand-ins read."""
    objects = argparse.Namespace(path=PurePosixPath("a"), counts=defaultdict(int, a=1), last={1})
    return {"state_dict": TENSORS, "callbacks": [objects, deque([1])], "args": objects}


def dumps_as_zip(_: Path) -> bytes:
    return saved(training_dump())


def dumps_of_older_kind(_: Path) -> bytes:
    return saved(training_dump(), as_zip=False)


def plain_pickles(_: Path) -> bytes:
    return pickle.dumps(training_dump())


def damaged_cases(family: Callable[[Path], bytes], count: int) -> Iterator[Case]:
    suffix = ".safetensors" if family is safetensors else ".ckpt"
    for number in range(count):

        def make(folder: Path, random: Generator, undamaged: bool = number == 0) -> Path:
            content = family(folder.parent / "outside")
            path = folder / f"model{suffix}"
            path.write_bytes(content if undamaged else damaged(content, random))
            return path

        yield Case(f"{family.__name__} {number}", make)


FAMILIES = (
    zip_files,
    legacy_files,
    safetensors,
    zip_files_with_code,
    legacy_files_with_code,
    pickles_with_code,
    dumps_as_zip,
    dumps_of_older_kind,
    plain_pickles,
)


def headers_of_safetensors(folder: Path, random: Generator) -> Path:
    """Any header over sound data, with its own length or a wrong one."""
    content = save(TENSORS)
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    for _ in range(random.integers(1, 3)):
        parent, key = random_place(header, random)
        if random.random() < 0.2:
            del parent[key]
            break
        offsets = [[0, 48], [48, 0], [-4, 44], [0, 2**63], [0, 76], [76, 76], [2**64, 0]]
        odd = [random_value(random), offsets[random.integers(7)], [4, 3], [2**32, 2**32], "F64"]
        parent[key] = odd[random.integers(len(odd))]
    text = json.dumps(header).encode()
    lengths = [len(text)] * 8 + [0, 2**63, 2**64 - 1, len(text) + 100, 100_000_001]
    length = lengths[random.integers(len(lengths))]
    path = folder / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + text + content[8 + size :])
    return path


def members_of_zip_files(folder: Path, random: Generator) -> Path:
    """Sound zip archives whose members aren't those of a checkpoint."""
    path = folder / "model.ckpt"
    source = zipfile.ZipFile(io.BytesIO(saved({"state_dict": TENSORS})))
    with zipfile.ZipFile(path, "w") as target:
        for member in source.namelist():
            content, name = source.read(member), member
            chance = random.random()
            if chance < 0.15:
                continue
            if chance < 0.3:
                name = f"../../outside/{Path(member).name}"
            elif chance < 0.5:
                content = damaged(content, random) if content else content
            elif chance < 0.6:
                target.writestr(name, bytes(10**7), zipfile.ZIP_DEFLATED)
                continue
            target.writestr(name, content)
    return path


def pickles_of_random_opcodes(folder: Path, random: Generator) -> Path:
    """Pickle programs without a plan."""
    path = folder / "model.ckpt"
    header = b"\x80\x02" if random.random() < 0.8 else b""
    body = random.choice(OPCODES, random.integers(1, 200)).tobytes()
    path.write_bytes(header + body + b".")
    return path


@pytest.mark.slow
def test_damaged_files(tmp_path: Path) -> None:
    check([case for family in FAMILIES for case in damaged_cases(family, 60)], tmp_path)


@pytest.mark.parametrize(
    "make", [headers_of_safetensors, members_of_zip_files, pickles_of_random_opcodes]
)
def test_crafted_files(tmp_path: Path, make: Callable[[Path, Generator], Path]) -> None:
    check([Case(f"{make.__name__} {number}", make) for number in range(80)], tmp_path)


def check(cases: list[Case], folder: Path) -> None:
    sound = folder / "sound.ckpt"
    sound.write_bytes(saved(TENSORS))
    work = folder / "work"
    work.mkdir()
    tally = run_cases("checkpoint", cases, work, sound)
    assert not tally.faults, f"{len(tally.faults)} faults:\n" + "\n".join(tally.faults)
    assert tally.worked + tally.refused == len(cases)
