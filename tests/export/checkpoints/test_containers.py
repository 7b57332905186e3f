"""Files of every container under every name, and files that are no checkpoints at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from seeded_checkpoints import TINY, load_encoder_weights, model_shapes, raw_tensors

from magvit_export.checkpoints.reading import CheckpointError

SHAPES = model_shapes(TINY)
RAW = raw_tensors(SHAPES)


def zipped() -> bytes:
    file = io.BytesIO()
    torch.save(RAW, file)
    return file.getvalue()


def older() -> bytes:
    file = io.BytesIO()
    torch.save(RAW, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def safetensors() -> bytes:
    return save(RAW)


def plain_pickle() -> bytes:
    return pickle.dumps(RAW)


def oldest_pickle() -> bytes:
    """Of protocol 0: text, but for the tensors."""
    return pickle.dumps(RAW, 0)


@pytest.mark.parametrize("write", [zipped, older, safetensors, plain_pickle, oldest_pickle])
@pytest.mark.parametrize("name", ["model", "model.ckpt", "model.safetensors", "model.json"])
def test_the_name_of_a_file_says_nothing(
    tmp_path: Path, write: Callable[[], bytes], name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(write())
    state = load_encoder_weights(path, SHAPES).state
    assert state.keys() == RAW.keys()
    assert all(torch.equal(value, RAW[key]) for key, value in state.items())


def in_zip(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return file.getvalue()


def in_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("model.ckpt")
        member.size = 7
        archive.addfile(member, io.BytesIO(b"content"))
    return file.getvalue()


def in_npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, **{key: value.numpy() for key, value in RAW.items()})
    return file.getvalue()


def torch_script() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda: b"", "is empty. Fix: download it again"),
        (
            lambda: b"\xef\xbb\xbf\n<!doctype HTML><title>Sign in</title>",
            "is a web page, no checkpoint. Fix: download the checkpoint itself",
        ),
        (
            lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
            "is a Git LFS pointer, not the file that it stands for. Fix: git lfs pull",
        ),
        (lambda: b"Entry not found\n", "is text, no checkpoint: found 'Entry not found'"),
        (lambda: b"<?xml version='1.0'?>\n<Error/>", "found \"<?xml version='1.0'?>\""),
        (lambda: b"{'error': 1}", "is text, no checkpoint"),
        (lambda: b'{"error": "Access denied"}', "is JSON, and no index of a checkpoint's shards"),
        (lambda: gzip.compress(older()), "is compressed with gzip, no checkpoint. Fix: gunzip it"),
        (lambda: bz2.compress(older()), "is compressed with bzip2"),
        (lambda: lzma.compress(safetensors()), "is compressed with xz"),
        (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file"),
        (lambda: b"GGUF" + bytes(99), "is a GGUF file"),
        (lambda: in_zip("a/model.ckpt", "a/README"), "is a zip archive of other files"),
        (in_tar, "is a tar archive, no checkpoint. Fix: unpack it"),
        (in_npz, "holds NumPy arrays, no checkpoint. Fix: save the PyTorch model's state dict"),
        (torch_script, "is a TorchScript program, no checkpoint"),
        (
            lambda: pickle.dumps({key: value.numpy() for key, value in RAW.items()}),
            "holds no state dict: found encoder.conv_in.conv_1.weight (numpy",
        ),
    ],
    ids=[
        *("empty", "web page", "LFS pointer", "answer of the hub", "answer of S3", "no JSON"),
        *("JSON", "gzip", "bzip2", "xz", "HDF5", "GGUF", "zip", "tar", "npz", "TorchScript"),
        "pickled arrays",
    ],
)
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_what_is_no_checkpoint_is_called_what_it_is(
    tmp_path: Path, write: Callable[[], bytes], words: str, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(write())
    with pytest.raises(CheckpointError) as error:
        load_encoder_weights(path, SHAPES)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)
