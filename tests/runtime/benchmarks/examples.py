"""Benchmarks with known figures, as if they had been measured."""

from __future__ import annotations

import msgspec
import numpy as np

from magvit_runtime.benchmarks.comparison import YARDSTICK
from magvit_runtime.benchmarks.machine import MachineRecord
from magvit_runtime.benchmarks.results import (
    SCHEMA_VERSION,
    Benchmark,
    Ceilings,
    ColdStart,
    EncoderRecord,
    Row,
    Settings,
    Work,
)
from magvit_runtime.benchmarks.statistics import median_estimate, percentiles, ratio_estimate
from magvit_runtime.types import Estimate

OURS = "native fp32"
# Slower and faster in turn, like a machine that others also use.
LOAD = np.array([1.0, 1.1, 0.95, 1.3, 1.05, 1.0, 0.9])[:, None] * np.array([1.0, 1.02, 0.98])


def row(encoder: str, seconds: float, base: float, batch: int = 1) -> Row:
    samples = seconds * LOAD
    median = median_estimate(samples)
    speed = Estimate(batch / median.value, batch / median.high, batch / median.low)
    return Row(
        encoder=encoder,
        batch=batch,
        seconds=samples.tolist(),
        latency=percentiles(samples),
        median=median,
        clips_per_second=speed,
        ratio=ratio_estimate(samples, base * LOAD),
        parts={"render": 0.001, "checks and copies": 0.0001, "run": seconds - 0.0001}
        if encoder == OURS
        else {},
        kept_full={2: Estimate(2 * batch / seconds, batch / seconds, 3 * batch / seconds)}
        if encoder == OURS
        else {},
        agreement=1.0,
    )


def benchmark(ours: float = 0.1, plain: float | None = 0.5) -> Benchmark:
    """Ours took `ours` seconds a call, and plain ONNX Runtime `plain`; None leaves that out."""
    encoders = [EncoderRecord(OURS, "ours", "1", "CPU", "fp32", "2 threads")]
    rows = [row(OURS, ours, ours)]
    if plain is not None:
        encoders.append(EncoderRecord(YARDSTICK, "peer", "1", "CPU", "fp32", "2 threads"))
        rows.append(row(YARDSTICK, plain, ours))
    return Benchmark(
        schema_version=SCHEMA_VERSION,
        created="2026-01-01T00:00:00+00:00",
        model="a model",
        weights="some weights",
        reference="onnxruntime fp32",
        machine=MachineRecord(
            "a CPU", 2, 8.0, [2000.0], None, 0.5, [], "", "Linux", {"python": "3"}
        ),
        settings=Settings(2, (17, 128, 128, 3), "drawn", 3, 7, 3, (2,)),
        encoders=encoders,
        rows=rows,
        not_run={"OpenVINO": "openvino isn't installed"},
        cold_starts={OURS: ColdStart(0.2, 0.3, 0.4, 0.1, 100.0)},
        work=Work(flop=2e12, weight_bytes=1e9, map_bytes=2e9),
        ceilings=Ceilings(1e11, 1e10),
    )


def on_another_cpu(one: Benchmark) -> Benchmark:
    machine = msgspec.structs.replace(one.machine, cpu="another CPU")
    return msgspec.structs.replace(one, machine=machine)
