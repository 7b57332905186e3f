"""What a run keeps beside its weights: how it was asked for, and what each step and check gave."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.training.tokenizer.options import TokenizerOptions
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path

RUN_FILE = "run.json"
STATE_FILE = "state.safetensors"
STEPS_FILE = "steps.jsonl"
HELD_OUT_FILE = "held_out.jsonl"
WEIGHTS_FILE = "weights.safetensors"
REPORT_FILE = "report.html"
CARD_FILE = "MODEL_CARD.md"


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run depends on.

    Attributes:
        model: Name of the model in the catalog.
        config: Its architecture.
        options: How it is trained.
        command: What was typed.
        start_weights: As of `magvit export --weights`; a file by its absolute path.
        start_sha256: Digest of that file.
        recorded: Absolute path of the file of recorded trajectories; None for Libras.
        data: The movements' name.
        data_sha256: Their digest.
        trained_on: Recorded movements that are trained on.
        held_out: Those that are not.
        machine: The CPU or GPU.
        software: Versions.
        begun: When, in UTC.
    """

    model: str
    config: TokenizerConfig
    options: TokenizerOptions
    command: str
    start_weights: str
    start_sha256: str | None
    recorded: str | None
    data: str
    data_sha256: str
    trained_on: int
    held_out: int
    machine: str
    software: dict[str, str]
    begun: str


class StepRecord(msgspec.Struct, frozen=True):
    """One step.

    Attributes:
        step: From 1.
        size: Pixels of a side.
        learning_rate: As it was.
        loss: The weighed sum.
        reconstruction, commitment, certainty, variety: Its terms, as in `Losses`.
        gradient: Length of the gradient before it was cut.
        seconds: Time that it took.
    """

    step: int
    size: int
    learning_rate: float
    loss: float
    reconstruction: float
    commitment: float
    certainty: float
    variety: float
    gradient: float
    seconds: float


class HeldOutRecord(msgspec.Struct, frozen=True):
    """What the averaged weights, rounded to float16, give for clips that aren't trained on.

    Attributes:
        step: Steps done.
        size: Pixels of a side.
        clips: Clips by source ("recorded", "generated").
        psnr: Mean PSNR in dB by source.
        ground_psnr: The same of pictures of the background alone.
        codes: Different ids in all these clips.
        entropy: Entropy of a token in bits.
        drawn_share: Share of the tokens in whose place anything is drawn, 0..1.
        drawn_codes: Different ids of those.
        drawn_entropy: Their entropy in bits.
        ground_codes: Different ids of the others.
        constant_bits: Bits that are the same in all drawn tokens.
    """

    step: int
    size: int
    clips: dict[str, int]
    psnr: dict[str, float]
    ground_psnr: dict[str, float]
    codes: int
    entropy: float
    drawn_share: float
    drawn_codes: int
    drawn_entropy: float
    ground_codes: int
    constant_bits: int


Line = TypeVar("Line", StepRecord, HeldOutRecord)


def write_run(folder: Path, run: RunRecord) -> None:
    """Writes what a run depends on."""
    with atomic_path(folder / RUN_FILE) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")


def read_run(folder: Path) -> RunRecord:
    """Reads what a run depends on.

    Raises:
        InputError: There is no run, or its record can't be read.
    """
    path = folder / RUN_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunRecord)
    except OSError as error:
        mend = "magvit train tokenizer -o RUN begins one"
        raise InputError(f"{folder} is no run", found=error.strerror, mend=mend) from error
    except (msgspec.MsgspecError, InputError) as error:
        raise InputError(f"{path} is no record of a run", found=error) from error


def append_line(path: Path, line: StepRecord | HeldOutRecord) -> None:
    """Adds a line to a file of records."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")


def read_lines(path: Path, kind: type[Line], last_step: int | None = None) -> list[Line]:
    """Reads a file of records; a line that was cut when its process was killed ends it.

    Args:
        path: The file; none of it is read where it isn't there.
        kind: What its lines are.
        last_step: Lines of later steps are left out.
    """
    if not path.exists():
        return []
    found = []
    for text in path.read_bytes().splitlines():
        try:
            line = msgspec.json.decode(text, type=kind)
        except msgspec.MsgspecError:
            break
        if last_step is None or line.step <= last_step:
            found.append(line)
    return found


def write_lines(path: Path, records: Iterable[StepRecord | HeldOutRecord]) -> None:
    """Writes a file of records anew."""
    with atomic_path(path) as partial:
        partial.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in records))
