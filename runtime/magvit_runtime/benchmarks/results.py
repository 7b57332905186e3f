"""The results of a benchmark, as its JSON file holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.benchmarks.machine import MachineRecord
from magvit_runtime.benchmarks.statistics import Percentiles
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.errors import InputError
from magvit_runtime.hardware.gpu_states import GpuState
from magvit_runtime.types import Estimate

SCHEMA_VERSION = 2

ClipKind = Literal["drawn", "noise"]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all records: immutable, and unknown fields are refused."""


class Settings(_Record, frozen=True):
    """How it was measured.

    Attributes:
        threads: CPU threads of one run, the same for every encoder.
        clip_shape: [T, H, W, 3] or [H, W, 3]; of a decoder the tokens of a clip, [t, h, w] or
            [h, w].
        clips: "drawn" trajectories or seeded "noise"; a decoder's ids are always seeded.
        inputs: Input sets that rotate; each runs once before anything is timed.
        repetitions: Parts of the run whose scatter makes the intervals.
        rounds: Calls of each encoder in a repetition.
        workers: Numbers of threads that call at once where an encoder is kept full; none left that
            out.
        role: What was timed.
    """

    threads: int
    clip_shape: tuple[int, ...]
    clips: ClipKind
    inputs: int
    repetitions: int
    rounds: int
    workers: tuple[int, ...]
    role: Role = "encode"


class EncoderRecord(_Record, frozen=True):
    """One way of running the encoder.

    Attributes:
        name: Its name in all tables.
        kind: "ours", through `Tokenizer` or `Detokenizer`, or a "peer".
        version: Of the library behind it.
        device: Where it ran.
        precision: Precision of its graph or weights.
        settings: Its settings, as text for people.
    """

    name: str
    kind: Literal["ours", "peer"]
    version: str
    device: str
    precision: str
    settings: str


class Row(_Record, frozen=True):
    """One encoder at one batch size.

    Attributes:
        encoder: Name of the encoder.
        batch: Clips of a call.
        seconds: Seconds of each call, uint8 frames to ids, [repetitions][rounds].
        latency: Their percentiles.
        median: Their median with its interval.
        clips_per_second: One request at a time, from the median.
        ratio: How many times as long as the first of our own encoders it takes.
        parts: Median seconds of the parts of a call, and of what comes before and after it.
        kept_full: Clips a second with some workers calling at once, by their number; empty where
            not measured.
        agreement: Share of ids, or of bytes, equal to the reference's, 0..1; None where there is no
            reference.
    """

    encoder: str
    batch: int
    seconds: list[list[float]]
    latency: Percentiles
    median: Estimate
    clips_per_second: Estimate
    ratio: Estimate
    parts: dict[str, float]
    kept_full: dict[int, Estimate] = {}
    agreement: float | None = None

    @property
    def samples(self) -> NDArray[np.float64]:
        """`seconds` as float64 [repetitions, rounds]."""
        return np.asarray(self.seconds)


class ColdStart(_Record, frozen=True):
    """A fresh process of its own: seconds, and MiB.

    Attributes:
        imports: Starting Python and importing the runtime.
        load: Opening the tokenizer, digests included; the files are in the system's cache.
        first_call: The first call, of one clip.
        second_call: The second.
        host_mib: Most memory that the process held.
        device_mib: GPU memory that was taken during the process; None without a GPU.
    """

    imports: float
    load: float
    first_call: float
    second_call: float
    host_mib: float
    device_mib: int | None = None


class Work(_Record, frozen=True):
    """The work of the graph for one clip.

    Attributes:
        flop: Operations of its convs, done directly: 2 per multiplication, padding included.
        weight_bytes: Weights, read once per call.
        map_bytes: Every conv's input, residual and output, moved once, with all else fused.
    """

    flop: float
    weight_bytes: float
    map_bytes: float

    def bytes(self, batch: int) -> float:
        """Least traffic of a call, in bytes."""
        return self.weight_bytes + batch * self.map_bytes


class Ceilings(_Record, frozen=True):
    """The ceilings of this machine's CPU.

    Attributes:
        flop_per_second: float32 matrix product, NumPy's BLAS, all CPUs.
        bytes_per_second: Copy, bytes read and written, all CPUs.
    """

    flop_per_second: float
    bytes_per_second: float


class Benchmark(_Record, frozen=True):
    """A whole benchmark.

    Attributes:
        schema_version: Version of this schema.
        created: When, ISO 8601 in UTC.
        model, weights: The model and weights that ran.
        reference: The reference for ids.
        machine: The machine, before.
        gpus_after: Clocks, power and throttling of its GPUs at the end.
        settings: How it was measured.
        encoders: The encoders that ran, ours first; ratios are to the first.
        rows: The measured figures.
        not_run: The encoders that didn't run, and why.
        cold_starts: The cold start of each of our encoders, by its name.
        work: The work of a clip; None if the graph can't be read as convs.
        ceilings: The ceilings of the CPU; None if there is no such work.
    """

    schema_version: int
    created: str
    model: str
    weights: str
    reference: str
    machine: MachineRecord
    settings: Settings
    encoders: list[EncoderRecord]
    rows: list[Row]
    not_run: dict[str, str]
    cold_starts: dict[str, ColdStart]
    work: Work | None = None
    ceilings: Ceilings | None = None
    gpus_after: list[GpuState] = []


def read_benchmark(path: Path) -> Benchmark:
    """Reads a file of `magvit bench --output`.

    Raises:
        InputError: The file can't be read, or isn't such a file.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Benchmark)
    except OSError as error:
        raise InputError(f"can't read {path}", found=error.strerror) from error
    except msgspec.DecodeError as error:
        raise InputError(
            f"{path} is no benchmark of this version",
            found=str(error),
            mend="write it with `magvit bench DIR --output FILE`",
        ) from error
