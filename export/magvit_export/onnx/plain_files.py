"""ONNX files as libraries in C++ take them: under a name in UTF-8, and without links."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from magvit_runtime.bundle.external_data import external_data


@contextmanager
def plain_graph(path: Path) -> Iterator[Path]:
    """A path at which a graph and its weights are plain files while the block runs.

    Args:
        path: A graph, checked with its weights. Where it is plain already, it is given back; else
            the files are copied to a folder of their own.
    """
    names = [path.name, *dict.fromkeys(external_data(path))]
    if str(path).isprintable() and not any((path.parent / name).is_symlink() for name in names):
        yield path
        return
    with TemporaryDirectory() as folder:
        for name in names:
            place = Path(folder) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path.parent / name, place)  # onnx refuses hard links too.
        yield Path(folder) / path.name
