"""What bundles do on the machine that this process runs on, printed as JSON.

    python behaviour_of_machine.py FOLDER_OF_BUNDLES [verify]

`test_behaviour_table.py` runs it on stand-in machines. Only the functions `ways_to_run` and
`ways_to_verify` name what may be renamed; all else goes through the public face and `magvit`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import get_args

import numpy as np

from magvit_runtime import Bundle, MagvitError, Tokenizer, open_bundle
from magvit_runtime.backends.backend import Unfit
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.backends.opening import BackendName
from magvit_runtime.benchmarks.encoders import MODEL_CLASSES
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.cli.main import main
from magvit_runtime.verification.verifying import in_order

CLIP_SEED = 31


def ways_to_run(bundle: Bundle, precision: str | None, role: Role = "encode") -> Iterator[str]:
    """Subject, backend, precision and reason of each, in order; then why the others don't run."""
    chosen, _ = bundle.graph(role, precision)  # type: ignore[arg-type]
    found = list_candidates(bundle, role).for_precision(chosen, any_engine=precision is None)
    for option in found.fit:
        yield f"{option.subject} | {option.backend} | {option.precision} | {option.reason}"
    if role != "encode":
        yield from (f"{one.subject} | {one.backend} | unfit: {one.why}" for one in found.unfit)


def ways_to_verify(bundle: Bundle, role: Role = "encode") -> Iterator[str]:
    """Subject, backend and precision of each, with batches or the reason why not, in order."""
    for found in in_order(bundle, role):
        facts = f"{found.subject} | {found.backend} | {found.precision}"
        if isinstance(found, Unfit):
            yield f"{facts} | unfit: {found.why}"
        else:
            yield f"{facts} | batches {list(found.usual_batches)} of {list(found.clip_shape)}"


def opening(path: Path, backend: str, precision: str | None, role: Role = "encode") -> str:
    """What opens and why, or the error."""
    try:
        tokenizer = MODEL_CLASSES[role].open(path, backend=backend, precision=precision)  # type: ignore[arg-type]
    except MagvitError as error:
        return failure(error)
    with tokenizer:
        found = tokenizer.capabilities
    # The rest of a CPU's name is its instruction set.
    device = re.sub(r"^CPU, .*", "CPU", found.device)
    return f"{found.backend} | {found.precision} | {device} | {found.reason}"


def failure(error: MagvitError) -> str:
    return f"{type(error).__name__}: {error}"


def listed(ways: Iterator[str]) -> list[str] | str:
    try:
        return list(ways)
    except MagvitError as error:
        return failure(error)


def command(*arguments: str) -> list[str]:
    """A command's output, line by line, and its exit code."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code
    return [*(out.getvalue() + err.getvalue()).splitlines(), f"exit code {code}"]


def behaviour(path: Path, precisions: tuple[str | None, ...]) -> dict[str, object]:
    bundle = open_bundle(path)
    found: dict[str, object] = {}
    for precision in precisions:
        found[f"order, {precision or 'any precision'}"] = listed(ways_to_run(bundle, precision))
        found[f"opening, {precision or 'any precision'}"] = {
            backend: opening(path, backend, precision) for backend in get_args(BackendName)
        }
    found["order of verification"] = listed(ways_to_verify(bundle))
    before = times_asked()
    opening(path, "auto", None)
    found["the driver's tool is run for auto"] = times_asked() - before
    return found


def behaviour_of_role(path: Path, role: Role) -> dict[str, object]:
    """The same of another role."""
    bundle = open_bundle(path)
    return {
        "order": listed(ways_to_run(bundle, None, role)),
        "opening": {
            backend: opening(path, backend, None, role) for backend in get_args(BackendName)
        },
        "order of verification": listed(ways_to_verify(bundle, role)),
    }


def digest_of_ids(path: Path, backend: str) -> str:
    """SHA-256 of the ids of a clip of noise, none of whose latents is within 1e-3 of zero."""
    clip = np.random.default_rng(CLIP_SEED).integers(0, 256, (1, 3, 16, 16, 3), np.uint8)
    try:
        tokenizer = Tokenizer.open(path, backend=backend, threads=1)  # type: ignore[arg-type]
    except MagvitError as error:
        return failure(error)
    with tokenizer:
        assert np.abs(tokenizer.latents(clip)).min() > 1e-3
        return hashlib.sha256(tokenizer(clip).tobytes()).hexdigest()


def engines_by_doctor(path: Path) -> dict[str, str] | list[str]:
    *printed, code = command("--json", "doctor", str(path))
    if not printed[0].startswith("{"):
        return [*printed, code]
    return {
        Path(engine["subject"]).name: engine["problem"] or "runs here"
        for engine in json.loads(printed[0])["ways"]
    }


def times_asked() -> int:
    """How often the driver's tool was run; a stand-in keeps count."""
    count = Path(os.environ["PATH"]) / "asked"
    return len(count.read_text().splitlines()) if count.is_file() else 0


def print_behaviour(folder: Path, *, verify: bool) -> None:
    both: tuple[str | None, ...] = (None, "fp16")
    found: dict[str, object] = {
        path.name: behaviour(path, both if path.name == "engines" else (None,))
        for path in sorted(folder.iterdir())
    }
    found["ids of fp32"] = {
        backend: digest_of_ids(folder / "fp32", backend) for backend in ("native", "onnxruntime")
    }
    found["decoders of fp32"] = behaviour_of_role(folder / "fp32", "decode")
    found["classifiers of fp32"] = behaviour_of_role(folder / "fp32", "classify")
    found["clips to classes of fp32"] = behaviour_of_role(folder / "fp32", "classify-clips")
    found["magvit doctor"] = command("doctor")
    found["magvit doctor BUNDLE"] = {
        name: engines_by_doctor(folder / name)
        for name in ("engines", "damaged plan", "unreadable sidecar")
        if (folder / name).is_dir()
    }
    if verify:
        arguments = ("--against", "fp32", "--batch-sizes", "1")
        found["magvit verify"] = command("verify", str(folder / "engines"), *arguments)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    print_behaviour(Path(sys.argv[1]), verify="verify" in sys.argv[2:])
