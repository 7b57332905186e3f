"""Compares every graph and engine of a role that runs here with a reference."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from magvit_runtime.agreement import Agreement, Comparison, Outputs, new_comparison
from magvit_runtime.backends.backend import Candidate, Opening, Session, Unfit
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.bundle.manifest import ParityStamp, Precision, Role, TensorSpec
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.stamps import write_stamps
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.verification.references import Clips, Reference
from magvit_runtime.verification.running import run_clips
from magvit_runtime.verification.samples import sample_shapes, samples

ClipSource = Callable[[tuple[int, ...]], Iterator[Clips]]


@dataclass(frozen=True)
class Verdict:
    """The result of one graph or engine.

    Attributes:
        subject: "onnxruntime fp16", or the plan's file name.
        backend: The backend that ran it.
        precision: Its precision; None for an engine whose sidecar can't be read.
        runs: Whether it can be compared here.
        passed: Whether it ran and agrees.
        why: Why it can't be compared here, or what failed; "" otherwise.
        agreement: How it agrees, if it ran.
        record: The measured figures and how they were measured; this is the stamp, if all pass.
    """

    subject: str
    backend: str
    precision: Precision | None
    runs: bool
    passed: bool
    why: str = ""
    agreement: Agreement | None = None
    record: ParityStamp | None = None


@dataclass(frozen=True)
class Verification:
    """The result of a bundle.

    Attributes:
        reference: Name of the reference.
        verdicts: The results of each graph and engine, except the reference.
        passed: Whether something ran here, and all that ran agrees.
        stamped: Subjects that have a new stamp.
        unstamped_because: Why there are none although all passed; "" otherwise.
    """

    reference: str
    verdicts: tuple[Verdict, ...]
    passed: bool
    stamped: tuple[str, ...]
    unstamped_because: str


@dataclass(frozen=True)
class _ClipSet:
    """Clips of one shape; extra clips are run at only one shape of a candidate."""

    shape: tuple[int, ...]
    with_extra: bool


@dataclass
class _Comparison:
    """One run of `verify_bundle`. The reference sees each clip of each shape once."""

    reference: Reference
    given: TensorSpec
    extra: ClipSource | None
    batch_sizes: Sequence[int] | None
    advance: Callable[[int], None] | None
    known: dict[_ClipSet, tuple[list[Outputs], str]] = field(default_factory=dict)


def verify_bundle(
    bundle: Bundle,
    reference: Reference,
    *,
    role: Role = "encode",
    extra: ClipSource | None = None,
    batch_sizes: Sequence[int] | None = None,
    advance: Callable[[int], None] | None = None,
) -> Verification:
    """Compares a bundle's graphs and engines with a reference; stamps them if all that run agree.

    All files are checked against their digests first. A graph or engine that fails loses its stamp.

    Args:
        bundle: The bundle.
        reference: What its graphs and engines are compared with.
        role: What these do.
        extra: More clips of a shape, in parts. They are run besides the usual `samples`, which
            come in odd sizes too where the graph leaves sizes to the caller. A reference that
            knows some clips only is compared on those alone.
        batch_sizes: Clips at once; each runs all clips. A graph or engine that takes none of these
            runs its smallest batch. None is the smallest, best and largest of an engine's
            profile, and 1 and 2 for a graph.
        advance: Called with the number of clips just run.

    Raises:
        BundleError: A file is missing or was changed.
        InputError: A batch size isn't positive, or the clips don't fit the bundle or reference.
    """
    for size in batch_sizes or ():
        if size < 1:
            raise InputError("batch sizes must be positive", found=size)
    for name in bundle.manifest.files:
        bundle.verified_file(name)
    given = bundle.graph(role)[1].inputs[0]
    comparison = _Comparison(reference, given, extra, batch_sizes, advance)
    verdicts = [
        _judge(comparison, found)
        for found in in_order(bundle, role)
        if found.subject != reference.subject
    ]
    ran = [verdict for verdict in verdicts if verdict.runs]
    passed = bool(ran) and all(verdict.passed for verdict in ran)
    stamps = {v.subject: v.record for v in ran if passed and v.record is not None}
    problem = ""
    try:
        write_stamps(
            bundle, role, stamps, [verdict.subject for verdict in ran if not verdict.passed]
        )
    except InputError as error:  # A read-only bundle can still be verified.
        stamps, problem = {}, str(error)
    return Verification(reference.name, tuple(verdicts), passed, tuple(stamps), problem)


def in_order(bundle: Bundle, role: Role = "encode") -> list[Candidate | Unfit]:
    """Graphs, precision by precision; then engines by name, those that can't run here too."""
    found = list_candidates(bundle, role)
    precisions = list(bundle.graphs(role))
    graphs = [one for one in found.fit if not one.is_engine]
    graphs.sort(key=lambda one: precisions.index(one.precision))
    return [*graphs, *found.engines]


def _judge(comparison: _Comparison, candidate: Candidate | Unfit) -> Verdict:
    facts = (candidate.subject, candidate.backend, candidate.precision)
    if isinstance(candidate, Unfit):
        return Verdict(*facts, runs=False, passed=False, why=candidate.why)
    clip_sets = _clip_sets(comparison, candidate)
    if not clip_sets:
        why = f"the reference has no clips of {list(candidate.clip_shape)}"
        return Verdict(*facts, runs=False, passed=False, why=why)
    try:
        session = candidate.open(Opening("verified"))
    except BackendError as error:
        return Verdict(*facts, runs=False, passed=False, why=str(error))
    sizes = _batch_sizes(comparison, candidate)
    measured = new_comparison(candidate.graph)
    digest = hashlib.sha256()
    ours = session.capabilities
    try:
        for clips in clip_sets:
            # Outside of the inner block: a failing reference is not the candidate's fault.
            _, clips_sha256 = _known(comparison, clips)
            digest.update(clips_sha256.encode())
            try:
                _compare(comparison, candidate, session, clips, sizes, measured)
            except BackendError as error:
                return Verdict(*facts, runs=True, passed=False, why=str(error))
    finally:
        session.close()
    agreement = measured.result()
    record = ParityStamp(
        sha256=candidate.sha256,
        reference=comparison.reference.name,
        metrics=agreement.metrics,
        clips_sha256=digest.hexdigest(),
        batch_sizes=sizes,
        versions={
            "magvit-runtime": version("magvit-runtime"),
            "numpy": np.__version__,
            **comparison.reference.versions,
            ours.backend: ours.version,
        },
        machine=f"{platform.system()} {platform.machine()}, {ours.device}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    passed = agreement.passes(candidate.precision)
    return Verdict(*facts, runs=True, passed=passed, agreement=agreement, record=record)


def _batch_sizes(comparison: _Comparison, candidate: Candidate) -> tuple[int, ...]:
    if comparison.batch_sizes is None:
        return candidate.usual_batches
    sizes = tuple(size for size in comparison.batch_sizes if size in candidate.batches)
    return sizes or (candidate.batches[0],)


def _clip_sets(comparison: _Comparison, candidate: Candidate) -> list[_ClipSet]:
    if comparison.reference.clips is not None:
        shapes = dict.fromkeys(frames.shape[1:] for _, frames in comparison.reference.clips)
        fitting = [shape for shape in shapes if _fits(shape, candidate.clip_shape)]
        return [_ClipSet(shape, with_extra=False) for shape in fitting]
    usual, *odd = sample_shapes(comparison.given, candidate.clip_shape)
    return [_ClipSet(usual, with_extra=True), *(_ClipSet(shape, with_extra=False) for shape in odd)]


def _fits(shape: tuple[int, ...], clip_shape: tuple[int | str, ...]) -> bool:
    return len(shape) == len(clip_shape) and all(
        isinstance(expected, str) or size == expected
        for size, expected in zip(shape, clip_shape, strict=True)
    )


def _clips(comparison: _Comparison, clips: _ClipSet) -> Iterator[Clips]:
    """Clips in parts, each with a name, the same on every call."""
    if comparison.reference.clips is not None:
        for part in comparison.reference.clips:
            if part[1].shape[1:] == clips.shape:
                yield part
        return
    yield samples(comparison.given, clips.shape)
    if clips.with_extra and comparison.extra is not None:
        yield from comparison.extra(clips.shape)


def _advance(comparison: _Comparison, clips: int) -> None:
    if comparison.advance is not None:
        comparison.advance(clips)


def _known(comparison: _Comparison, clips: _ClipSet) -> tuple[list[Outputs], str]:
    """The reference's outputs for clips, and the clips' digest."""
    if clips not in comparison.known:
        digest = hashlib.sha256()
        outputs: list[Outputs] = []
        for _, frames in _clips(comparison, clips):
            digest.update(f"{list(frames.shape)}".encode())
            digest.update(frames.tobytes())
            parts = []
            for i in range(len(frames)):
                parts.append(comparison.reference.run(frames[i : i + 1]))
                _advance(comparison, 1)
            kinds = parts[0].keys()
            outputs.append({kind: np.concatenate([p[kind] for p in parts]) for kind in kinds})
        comparison.known[clips] = outputs, digest.hexdigest()
    return comparison.known[clips]


def _compare(
    comparison: _Comparison,
    candidate: Candidate,
    session: Session,
    clips: _ClipSet,
    sizes: Sequence[int],
    measured: Comparison,
) -> None:
    expected, _ = _known(comparison, clips)
    for (names, frames), reference in zip(_clips(comparison, clips), expected, strict=True):
        sizes_of_clip = (
            frames.shape[1:-1] if comparison.given.kind == "pixels" else frames.shape[1:]
        )
        size_label = "×".join(map(str, sizes_of_clip))
        labels = [f"{name} {size_label}" for name in names]
        for size in sizes:
            first = 0
            for ours in run_clips(session, candidate.graph, measured.kinds, frames, size):
                part = slice(first, first + len(ours[measured.kinds[0]]))
                expected_part = {kind: values[part] for kind, values in reference.items()}
                measured.add(ours, expected_part, labels[part])
                _advance(comparison, part.stop - part.start)
                first = part.stop
