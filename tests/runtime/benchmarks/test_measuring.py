"""Rows of encoders whose times and ids are known beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import pytest

from magvit_runtime import BackendError
from magvit_runtime.benchmarks.encoders import Frames, Ids, TimedEncoder
from magvit_runtime.benchmarks.measuring import encode_once, measure_rows
from magvit_runtime.benchmarks.results import EncoderRecord, Row, Settings
from magvit_runtime.benchmarks.workload import input_sets

SHAPE = (5, 32, 32, 3)
SETTINGS = Settings(1, SHAPE, "drawn", 2, 3, 2, ())
INPUTS = input_sets("drawn", SHAPE, 2, 2)


@dataclass
class Clock:
    """A clock that only sleepers advance."""

    now: float = 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


CLOCK = Clock()


def sleeper(
    name: str,
    seconds: float,
    *,
    wrong: int = 0,
    kind: str = "ours",
    sleep: Callable[[float], None] = CLOCK.sleep,
) -> TimedEncoder:
    """Takes a known time for 2 clips; of the 10 ids of each, some may be wrong."""
    run_seconds: list[float] = []

    def encode(clips: Frames) -> Ids:
        sleep(seconds)
        run_seconds.append(seconds / 2)  # As if the other half were the runtime's own.
        ids = np.tile(np.arange(10), (len(clips), 1))
        ids[:, :wrong] += 1
        return ids

    record = EncoderRecord(name, "ours" if kind == "ours" else "peer", "1", "CPU", "fp32", "")
    return TimedEncoder(record, encode, lambda: None, run_seconds if kind == "ours" else None)


def rows(
    *encoders: TimedEncoder,
    settings: Settings = SETTINGS,
    clock: Callable[[], float] = CLOCK,
) -> list[Row]:
    ids, failures = encode_once(encoders, INPUTS, lambda _: None)
    assert failures == {}
    return measure_rows(
        encoders,
        INPUTS,
        settings,
        classifier=None,
        ids=ids,
        reference=ids[encoders[0].record.name],
        advance=lambda _: None,
        clock=clock,
    )


def test_time_ratio_and_agreement_are_those_of_the_encoder() -> None:
    ours, peer = rows(sleeper("ours", 0.01), sleeper("peer", 0.03, wrong=3, kind="peer"))
    assert peer.latency.p50 == pytest.approx(0.03)
    assert peer.ratio.value == pytest.approx(3)
    assert (ours.agreement, peer.agreement) == (1, pytest.approx(0.7))
    assert peer.clips_per_second.value == pytest.approx(2 / 0.03)


def test_parts_are_ours_alone_and_add_up_to_the_call() -> None:
    ours, peer = rows(sleeper("ours", 0.01), sleeper("peer", 0.01, kind="peer"))
    assert peer.parts == {}
    assert ours.parts["run"] == 0.005
    assert ours.parts["checks and copies"] == pytest.approx(0.005)
    assert "render" in ours.parts


def test_stages_on_a_gpu_are_parts_of_the_run() -> None:
    ours = sleeper("ours", 0.01)
    stages: list[tuple[float, ...]] = []

    def encode(clips: Frames) -> Ids:
        stages.append((0.001, 0.002, 0.0005))
        return ours.encode(clips)

    (row,) = rows(replace(ours, encode=encode, stage_seconds=stages))
    assert "run" not in row.parts
    assert row.parts["host to device"] == 0.001
    assert row.parts["compute"] == 0.002
    assert row.parts["device to host"] == 0.0005
    assert row.parts["launches and waits"] == pytest.approx(0.005 - 0.0035)


def test_workers_together_keep_an_encoder_full() -> None:
    """Sleeping takes no CPU: two workers do twice as much."""
    ours, peer = rows(
        sleeper("ours", 0.1, sleep=time.sleep),
        sleeper("peer", 0.1, kind="peer", sleep=time.sleep),
        settings=msgspec.structs.replace(SETTINGS, repetitions=2, workers=(1, 2)),
        clock=time.perf_counter,
    )
    assert 1.5 < ours.kept_full[2].value / ours.clips_per_second.value < 2.2
    assert 0.5 < ours.kept_full[1].value / ours.clips_per_second.value < 1.1
    assert peer.kept_full == {}


def test_a_peer_may_fail_in_its_own_way_and_ours_in_ours() -> None:
    def fail(clips: Frames) -> Ids:
        raise BackendError(f"no room for {len(clips)}")

    def crash(clips: Frames) -> Ids:
        raise ZeroDivisionError(f"no {len(clips)} clips\nsecond line")

    ours, peer = sleeper("ours", 0), sleeper("peer", 0, kind="peer")
    failing = TimedEncoder(ours.record, fail, ours.close)
    crashing = TimedEncoder(peer.record, crash, peer.close)
    ids, failures = encode_once([failing, crashing], INPUTS, lambda _: None)
    assert ids == {}
    assert failures == {"ours": "no room for 2", "peer": "no 2 clips"}
    with pytest.raises(ZeroDivisionError):
        encode_once([TimedEncoder(ours.record, crash, ours.close)], INPUTS, lambda _: None)
