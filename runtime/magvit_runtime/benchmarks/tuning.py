"""Times the ways to run a role of a bundle on this machine, so that "auto" takes the fastest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from magvit_runtime.agreement import Outputs, new_comparison
from magvit_runtime.backends.backend import Candidate, Opening, Session
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.backends.tensor_check import check_array
from magvit_runtime.benchmarks.statistics import median_estimate
from magvit_runtime.benchmarks.timing import time_interleaved
from magvit_runtime.bundle.manifest import GraphRecord, Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.tuning_file import MachineTuning, TunedOption, check_tuning, write_tuning
from magvit_runtime.errors import BackendError
from magvit_runtime.types import Array, Estimate

WARM_UP = 1


@dataclass(frozen=True)
class Timing:
    """How one option did.

    Attributes:
        subject: "native fp32", or the plan's file name.
        seconds: Seconds of one clip; None if it didn't run, or disagreed.
        why_not: Why it wasn't timed; "" otherwise.
    """

    subject: str
    seconds: Estimate | None = None
    why_not: str = ""


def tune(
    bundle: Bundle,
    clips: Array,
    *,
    role: Role = "encode",
    threads: int | None = None,
    repetitions: int = 5,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[Timing, ...]:
    """Times every option clip by clip, in turn, and writes the times into the bundle.

    An option that disagrees with the graph in ONNX Runtime, by the rule of its precision, is not
    timed: the fastest option must also be right.

    Args:
        bundle: The bundle.
        clips: What the role takes, as production will see it: uint8 clips [N, T, H, W, 3] (or
            [N, H, W, 3]), or int32 ids.
        role: What is timed.
        threads: CPU threads of one run; None is each backend's own choice.
        repetitions: How often each option runs each clip.
        advance: Told of every round done.

    Returns:
        All options, the fastest first, then those that weren't timed.

    Raises:
        InputError: The clips don't fit the graph, or the bundle can't be written to.
        BundleError: A file was changed.
        BackendError: Nothing runs here.
    """
    check_tuning(bundle)
    precision, _ = bundle.graph(role)
    found = list_candidates(bundle, role).for_precision(precision, any_engine=True)
    options = found.fit
    frames = options[-1].graph.inputs[0]
    batch = frames.shape[0] if isinstance(frames.shape[0], int) else 1
    inputs = [np.repeat(clip[None], batch, axis=0) for clip in clips]
    check_array("the clips", inputs[0], frames)
    with ExitStack() as stack:
        sessions, refused = _open_all(options, threads, stack)
        wrong = _disagreeing(sessions, inputs, options[-1].graph)
        calls = {
            option.subject: _call(session, option.graph)
            for option, session in sessions
            if option.subject not in wrong
        }
        samples = time_interleaved(
            calls,
            inputs,
            repetitions=repetitions,
            rounds=len(inputs),
            warm_up=WARM_UP,
            advance=advance,
        )
        versions = {
            session.capabilities.backend: session.capabilities.version for _, session in sessions
        }
    timed = [Timing(subject, median_estimate(s / batch)) for subject, s in samples.items()]
    timed.sort(key=lambda timing: timing.seconds.value if timing.seconds else 0)
    digests = {option.subject: option.sha256 for option in options}
    record = MachineTuning(
        options=tuple(
            TunedOption(
                subject=timing.subject,
                sha256=digests[timing.subject],
                seconds=timing.seconds.value,
            )
            for timing in timed
            if timing.seconds is not None
        ),
        clips=clips.shape[1:],
        versions=versions | {"magvit-runtime": version("magvit-runtime")},
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_tuning(bundle, record, role)
    untimed = [Timing(subject, why_not=why) for subject, why in (refused | wrong).items()]
    return (*timed, *untimed)


def _open_all(
    options: Sequence[Candidate], threads: int | None, stack: ExitStack
) -> tuple[list[tuple[Candidate, Session]], dict[str, str]]:
    sessions, refused = [], {}
    for option in options:
        try:
            session = option.open(Opening("timed", threads))
        except BackendError as error:
            refused[option.subject] = str(error)
            continue
        stack.enter_context(closing(session))
        sessions.append((option, session))
    if not sessions:
        raise BackendError(f"nothing runs here: {'; '.join(refused.values())}")
    return sessions, refused


def _disagreeing(
    sessions: Sequence[tuple[Candidate, Session]],
    inputs: Sequence[Array],
    graph: GraphRecord,
) -> dict[str, str]:
    """Options that break the rule of their precision, and by how much."""
    reference = next((s for option, s in sessions if option.backend == "onnxruntime"), None)
    if reference is None:
        return {}
    wrong = {}
    expected = [_outputs(reference, graph, frames) for frames in inputs]
    for option, session in sessions:
        if session is reference:
            continue
        comparison = new_comparison(graph)
        for frames, outputs in zip(inputs, expected, strict=True):
            names = [f"clip {i}" for i in range(len(frames))]
            comparison.add(_outputs(session, graph, frames), outputs, names)
        agreement = comparison.result()
        if not agreement.passes(option.precision):
            wrong[option.subject] = f"it disagrees with ONNX Runtime: {agreement.summary}"
    return wrong


def _outputs(session: Session, graph: GraphRecord, frames: Array) -> Outputs:
    kinds = new_comparison(graph).kinds
    wanted = [output for output in graph.outputs if output.kind in kinds]
    results = session.run({graph.inputs[0].name: frames}, [output.name for output in wanted])
    return {output.kind: result for output, result in zip(wanted, results, strict=True)}


def _call(session: Session, graph: GraphRecord) -> Callable[[Array], object]:
    given, made = graph.inputs[0].name, graph.outputs[0].name
    return lambda frames: session.run({given: frames}, [made])
