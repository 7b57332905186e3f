"""The process that opens hostile files, one JSON request per line: `python child.py bundle`.

Its answer has the result of each, which is "worked", the message of a MagvitError, or the traceback
of any other error, and the files outside the bundle that Python opened during it.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import resource
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from magvit_runtime import Classifier, MagvitError, Tokenizer, open_bundle
from magvit_runtime.backends.backend import Candidate
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.backends.opening import BackendName
from magvit_runtime.backends.trt.engines import Engine, check_plan, find_engines
from magvit_runtime.native_libraries.lookup import plugin_library

# A bomb that asks for more than this fails in this process, and not in the whole machine.
MEMORY_LIMIT = 12 * 2**30

opened: list[str] = []


def note_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | bytes):
        opened.append(os.fsdecode(arguments[0]))
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect"):
        opened.append(event)


def tokenize(path: Path) -> None:
    def run(backend: BackendName) -> None:
        with Tokenizer.open(path, backend=backend, threads=1) as tokenizer:
            check_ids(tokenizer, np.zeros((1, 2, 4, 4, 3), np.uint8))

    in_every_backend(run)


def in_every_backend(run: Callable[[BackendName], None]) -> None:
    """Runs in every backend that reads graphs; if one refuses a file, the others still read it."""
    refusals = []
    backends: tuple[BackendName, ...] = ("native", "onnxruntime")
    for backend in backends:
        try:
            run(backend)
        except MagvitError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def check_ids(tokenizer: Tokenizer, clips: np.ndarray) -> None:
    """A result without an error must be as the docstring promises."""
    for batch in (clips, np.concatenate((clips, clips))):
        ids = tokenizer(batch)
        assert isinstance(ids, np.ndarray), type(ids)
        assert ids.dtype == np.int32, ids.dtype
        assert ids.shape[0] == len(batch), ids.shape
        assert ids.ndim == 4, ids.shape
    assert isinstance(tokenizer.clip_shape, tuple)
    assert isinstance(tokenizer.latents(clips), np.ndarray)


def classify(path: Path) -> None:
    def run(backend: BackendName) -> None:
        with Classifier.open(path, backend=backend, threads=1) as classifier:
            result = classifier(np.zeros((2, 2, 2, 2), np.int32))
            assert len(result.labels) == 2
            assert result.probabilities.dtype == np.float32
            assert result.probabilities.shape == (2, len(result.classes))

    in_every_backend(run)


def list_engines(path: Path) -> None:
    bundle = open_bundle(path)
    for engine in list_candidates(bundle).engines:
        if isinstance(engine, Candidate):
            engine.check()
    # Files that fit no GPU are read too: an attack may not need the right GPU.
    for found in find_engines(bundle):
        if isinstance(found, Engine):
            check_plan(found)


def load_checkpoint(path: Path) -> None:
    from magvit_export.checkpoints.reading import load_weights
    from magvit_export.families.magvit.family import FAMILY

    shapes = {"encoder.a.weight": (4, 3), "encoder.b.bias": (7,)}
    state = load_weights(path, shapes, ("encoder.",), FAMILY.spellings).state
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes
    for value in state.values():
        float(value.sum())  # Mapped memory is read too.


def misbehave(path: Path) -> None:
    """Actions that the watchdog must notice; never done to the bundle that a child warms up on."""
    if path.parent.name != "inside":
        return
    canary = path.parents[1] / "outside" / "canary"
    if path.name == "hang":
        threading.Event().wait()
    elif path.name == "crash":
        ctypes.string_at(0)
    elif path.name == "read":
        open(canary).close()  # noqa: PTH123
    elif path.name == "native read":
        ctypes.CDLL(None).open(os.fsencode(canary), os.O_RDONLY)
    elif path.name == "write":
        (path / "new").touch()
    else:
        raise KeyError(path.name)


ACTIONS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "bundle": (tokenize, classify, list_engines),
    "encoder": (tokenize,),
    "classifier": (classify,),
    "checkpoint": (load_checkpoint,),
    "misbehave": (misbehave,),
}


def outcome(action: Callable[[Path], None], path: Path) -> str:
    try:
        action(path)
    except MagvitError as error:
        return f"{type(error).__name__}: {error}"
    except BaseException:
        return "unexpected " + traceback.format_exc()
    return "worked"


def outside(root: Path, own: tuple[Path, ...]) -> list[str]:
    """All opened files that are neither in `root` nor the interpreter's own."""
    allowed = (root.resolve(), *own)
    found = []
    for name in opened:
        place = Path(os.path.realpath(name))
        if not any(place.is_relative_to(folder) for folder in allowed):
            found.append(name)
    opened.clear()
    return found


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    packages = {Path(sys.modules["magvit_runtime"].__file__ or "").parents[2]}
    own = (*packages, *map(Path, {sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev/null"}))
    library = plugin_library()  # Its digest is what engines are compared with.
    own += (library,) if library else ()
    own = tuple(place.resolve() for place in own)
    sys.addaudithook(note_open)
    # Native libraries print to stdout too, so answers go elsewhere.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    actions = ACTIONS[sys.argv[1]]
    for line in sys.stdin:
        path = Path(json.loads(line))
        opened.clear()
        outcomes = {action.__name__: outcome(action, path) for action in actions}
        root = path if path.is_dir() else path.parent
        answers.write(json.dumps({"outcomes": outcomes, "outside": outside(root, own)}) + "\n")


if __name__ == "__main__":
    main()
