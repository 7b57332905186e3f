"""Spans of OpenTelemetry, seen by its own SDK; and that without a provider there are none."""

from __future__ import annotations

import subprocess
import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from runtime.collected_spans import CollectedSpans, children, collect_spans

from magvit_runtime import InputError, Tokenizer, tracing
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import ReadReport, StyleOptions

trace = pytest.importorskip("opentelemetry.trace", reason="the extra [telemetry]")
pytest.importorskip("opentelemetry.sdk.trace", reason="the extra [dev]")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> CollectedSpans:
    return collect_spans(monkeypatch)


def clips(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 16, 16, 3), np.uint8)


def test_a_call_has_a_span_and_one_below_it_for_each_batch(
    tiny_bundle: Path, spans: CollectedSpans
) -> None:
    with Tokenizer.open(tiny_bundle, batch_size=2, threads=1) as tokenizer:
        (opened,) = spans.take()
        tokenizer(clips(3))
        facts = tokenizer.capabilities
    assert (opened.name, opened.parent) == ("magvit.open", None)
    assert opened.attributes["magvit.role"] == "encode"
    assert opened.attributes["magvit.reason"] == facts.reason
    call, first, second = spans.take()
    assert call.name == "magvit.tokenize"
    assert dict(call.attributes) == {
        "magvit.clips": 3,
        "magvit.shape": (3, 16, 16, 3),
        "magvit.batch_size": 2,
        "magvit.role": "encode",
        "magvit.backend": "native",
        "magvit.precision": "fp32",
        "magvit.device": facts.device,
    }
    assert children([first, second], call) == ["magvit.run", "magvit.run"]
    assert [one.attributes["magvit.batch"] for one in (first, second)] == [2, 1]
    assert call.start_time <= first.start_time < first.end_time <= second.start_time
    assert second.end_time <= call.end_time


def test_calls_of_a_service_lie_below_its_own_span(
    tiny_bundle: Path, spans: CollectedSpans
) -> None:
    tracer = trace.get_tracer_provider().get_tracer("a service")
    opened = Tokenizer.open(tiny_bundle, threads=1)
    with opened as tokenizer, tracer.start_as_current_span("answer"):
        tokenizer(clips(1))
    _, answer, call, _ = spans.take()
    assert children([call], answer) == ["magvit.tokenize"]


def test_a_stream_shows_drawing_and_encoding(
    tiny_bundle: Path, tmp_path: Path, spans: CollectedSpans
) -> None:
    path = tmp_path / "walks.csv"
    path.write_text("id,x,y\n" + "".join(f"{i},{x},{x * i}\n" for i in range(3) for x in (0, 1)))
    style = StyleOptions(height=16, width=16, frames=2, margin=5)
    with Tokenizer.open(tiny_bundle, batch_size=2, threads=1) as tokenizer:
        spans.take()
        batches = read_clips(path, style, ReadReport(), 2)
        made = list(tokenizer.stream(batch.frames for batch in batches))
    assert [len(ids) for ids in made] == [2, 1]
    found = spans.take()
    calls = [one for one in found if one.parent is None]
    assert [one.name for one in calls] == ["magvit.tokenize"] * 2
    assert [one.attributes["magvit.clips"] for one in calls] == [2, 1]
    assert [one.attributes["magvit.shape"] for one in calls] == [(2, 16, 16, 3)] * 2
    for call in calls:
        assert children(found, call) == ["magvit.render", "magvit.run"]


def test_decoding_of_a_video_has_spans(tmp_path: Path, spans: CollectedSpans) -> None:
    from runtime.clips.videos import pictures, write_video

    path = write_video(tmp_path / "clip.mkv", pictures(4))
    style = StyleOptions(height=32, width=48, frames=2)
    assert len(list(read_clips(path, style, ReadReport(), 1))) == 2
    found = spans.take()
    assert [one.name for one in found] == ["magvit.decode_video"] * 2
    assert found[0].attributes["magvit.shape"] == (2, 32, 48, 3)


def test_batches_on_several_devices_lie_below_their_call(
    tiny_bundle: Path, spans: CollectedSpans
) -> None:
    with Tokenizer.open(tiny_bundle, threads=1, devices=["cpu", "cpu"]) as tokenizer:
        opened = spans.take()
        tokenizer(clips(4))
    assert [one.name for one in opened] == ["magvit.open"] * 2
    found = spans.take()
    assert found[0].name == "magvit.tokenize"
    assert children(found, found[0]) == ["magvit.run"] * 4


def test_what_fails_is_seen(tiny_bundle: Path, spans: CollectedSpans) -> None:
    with Tokenizer.open(tiny_bundle, threads=1) as tokenizer:
        spans.take()
        with pytest.raises(InputError):
            tokenizer(clips(1).astype(np.float32))
        (call,) = spans.take()
        with pytest.raises(InputError):
            list(tokenizer.stream([clips(1), clips(1)[0]]))
    assert call.status.status_code is trace.StatusCode.ERROR
    assert call.events[0].name == "exception"
    good, _, bad = spans.take()
    assert good.status.status_code is trace.StatusCode.UNSET
    assert bad.status.status_code is trace.StatusCode.ERROR


def test_a_stage_that_another_clock_timed_is_where_it_was(spans: CollectedSpans) -> None:
    with tracing.span("run", dict):
        tracing.past_stages(["copy", "compute"], [0.001, 0.002])
    run, *stages = sorted(spans.take(), key=lambda one: (one.parent is not None, one.start_time))
    assert [one.name for one in stages] == ["magvit.copy", "magvit.compute"]
    assert [one.end_time - one.start_time for one in stages] == [1_000_000, 2_000_000]
    assert stages[0].end_time == stages[1].start_time
    assert stages[1].end_time <= run.end_time


OFF = """
import sys
import numpy as np
from magvit_runtime import Tokenizer
if "with the API" in sys.argv:
    from opentelemetry import trace

    def refuse(*arguments, **options):
        raise AssertionError("a span was made")

    for kind in (trace.ProxyTracer, trace.NoOpTracer):
        kind.start_span = kind.start_as_current_span = refuse
    trace.NonRecordingSpan.__init__ = refuse
with Tokenizer.open(sys.argv[1], threads=1) as tokenizer:
    for _ in tokenizer.stream([np.zeros((2, 1, 8, 8, 3), np.uint8)]):
        print(tokenizer(np.zeros((1, 1, 8, 8, 3), np.uint8)).shape)
if "with the API" not in sys.argv:
    assert not any(name.startswith("opentelemetry") for name in sys.modules)
"""


@pytest.mark.parametrize("api", ["with the API", "without"])
def test_without_a_provider_no_span_is_made(api: str, tiny_bundle: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", OFF, str(tiny_bundle), api],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == "(1, 1, 4, 4)\n"


@pytest.mark.alone
@pytest.mark.parametrize("api", ["with the API", "without"])
def test_without_a_provider_a_span_takes_microseconds(
    api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if api == "without":
        monkeypatch.delitem(sys.modules, "opentelemetry.trace")

    def work() -> None:
        with tracing.span("run", lambda: {"batch": 1}):
            pass

    def least(function: Callable[[], None]) -> float:
        """Seconds of the process's own processor time."""
        seconds = timeit.repeat(function, timer=time.process_time, number=1000, repeat=50)
        return min(seconds) / 1000

    assert least(work) < 6e-6
    assert least(lambda: next(tracing.each("run", (None,), lambda _: {}))) < 6e-6


GLOBAL = """
import sys
import numpy as np
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from magvit_runtime import Tokenizer
tokenizer = Tokenizer.open(sys.argv[1], threads=1)
provider, exporter = TracerProvider(), InMemorySpanExporter()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
tokenizer(np.zeros((1, 1, 8, 8, 3), np.uint8))
print(*[span.name for span in exporter.get_finished_spans()])
"""


def test_a_provider_may_come_after_the_door(tiny_bundle: Path) -> None:
    command = [sys.executable, "-c", GLOBAL, str(tiny_bundle)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout == "magvit.run magvit.tokenize\n"
