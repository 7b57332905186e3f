"""Compares every graph and engine of a bundle that runs here with a reference, in tokens."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle import Bundle, graph_sha256
from magvit_runtime.engines.finding import (
    Engine,
    find_engines,
    first_mismatch,
    this_machine,
)
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.manifest import GraphRecord, ParityMetrics, ParityStamp, Precision
from magvit_runtime.parity import Agreement, ParityAccumulator
from magvit_runtime.parity_stamps import graph_subject, write_stamps
from magvit_runtime.sessions import Session, open_encoder
from magvit_runtime.sessions.selection import open_engine
from magvit_runtime.tensor_check import check_array
from magvit_runtime.verification_clips import (
    CLIP_NAMES,
    in_batches,
    odd_shape,
    usual_shape,
    verification_clips,
)

Clips = tuple[tuple[str, ...], NDArray[np.uint8]]
ClipSource = Callable[[tuple[int, ...]], Iterator[Clips]]


@dataclass(frozen=True)
class Reference:
    """What encoders are compared with.

    Attributes:
        name: What it is, for people and for the stamp.
        latents: uint8 clips [N, T, H, W, 3] (or [N, H, W, 3]) -> float latents [N, bits, t, h, w].
        versions: Versions of the software behind it.
        subject: Name of the bundle's own graph that it is; None where it is none of them.
    """

    name: str
    latents: Callable[[NDArray[np.uint8]], NDArray[np.floating]]
    versions: Mapping[str, str]
    subject: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What came of one graph or engine.

    Attributes:
        subject: "onnxruntime fp16", or the plan's file name.
        backend: What ran it.
        precision: Its precision.
        runs: Whether it can run here.
        passed: Whether it ran and agrees.
        why: Why it can't run here, or what failed; "" otherwise.
        agreement: How it agrees, where it ran.
        stamp: The stamp it has earned; None unless it passed.
    """

    subject: str
    backend: str
    precision: Precision
    runs: bool
    passed: bool
    why: str = ""
    agreement: Agreement | None = None
    stamp: ParityStamp | None = None


@dataclass(frozen=True)
class Verification:
    """What came of a bundle.

    Attributes:
        verdicts: Of each graph and engine but the reference.
        passed: Whether something ran here, and all that did agrees.
        stamped: Subjects that have a new stamp.
        unstamped_because: Why there are none although all passed; "" otherwise.
    """

    verdicts: tuple[Verdict, ...]
    passed: bool
    stamped: tuple[str, ...]
    unstamped_because: str


@dataclass(frozen=True)
class _Candidate:
    """A graph or engine: its digest, the shapes it takes, and the way to open it."""

    subject: str
    backend: str
    precision: Precision
    sha256: str
    graph: GraphRecord
    clip_shape: tuple[int | str, ...]
    batches: range
    open: Callable[[], Session]


@dataclass(frozen=True)
class _ClipSet:
    """Clips of one shape: ours, and the user's where the shape is theirs too."""

    shape: tuple[int, ...]
    with_extra: bool


@dataclass
class _Comparison:
    """One run of `verify_bundle`. The reference sees each clip of each shape once."""

    reference: Reference
    extra: ClipSource | None
    batch_sizes: Sequence[int]
    advance: Callable[[int], None] | None
    known: dict[_ClipSet, tuple[list[NDArray[np.floating]], str]] = field(default_factory=dict)


def verify_bundle(
    bundle: Bundle,
    reference: Reference,
    *,
    extra: ClipSource | None = None,
    batch_sizes: Sequence[int] = (1, 2),
    advance: Callable[[int], None] | None = None,
) -> Verification:
    """Compares a bundle's graphs and engines with a reference; stamps them if all that run agree.

    All files are checked against their digests first. What fails loses the stamp that it has.

    Args:
        bundle: The bundle.
        reference: What its encoders are compared with.
        extra: More clips of a shape, in parts. They are run besides `verification_clips`, which
            come in odd sizes too where the graph leaves sizes to the caller.
        batch_sizes: Clips at once; each runs all clips. A graph or engine that takes none of these
            runs its smallest batch.
        advance: Told the number of clips just run.

    Raises:
        BundleError: A file is missing or was changed.
        InputError: A batch size isn't positive, or the clips don't fit the bundle or reference.
    """
    for size in batch_sizes:
        if size < 1:
            raise InputError("batch sizes must be positive", found=size)
    for name in bundle.manifest.files:
        bundle.verified_file(name)
    comparison = _Comparison(reference, extra, batch_sizes, advance)
    verdicts = [
        found if isinstance(found, Verdict) else _judge(comparison, found)
        for found in _candidates(bundle)
        if found.subject != reference.subject
    ]
    ran = [verdict for verdict in verdicts if verdict.runs]
    passed = bool(ran) and all(verdict.passed for verdict in ran)
    stamps = {v.subject: v.stamp for v in ran if passed and v.stamp is not None}
    problem = ""
    try:
        write_stamps(bundle, stamps, [verdict.subject for verdict in ran if not verdict.passed])
    except InputError as error:  # A read-only bundle can be verified all the same.
        stamps, problem = {}, str(error)
    return Verification(tuple(verdicts), passed, tuple(stamps), problem)


def graph_reference(bundle: Bundle, name: str, *, subject: str | None = None) -> Reference:
    """A bundle's most precise graph in ONNX Runtime.

    Args:
        bundle: The bundle.
        name: Name of the reference.
        subject: Name of the graph, where the bundle is the one that is verified.

    Raises:
        BackendError: ONNX Runtime isn't installed, or can't load the graph.
        BundleError: A file was changed.
    """
    graph, session = open_encoder(bundle, backend="onnxruntime", precision=bundle.encoder()[0])
    batch = graph.inputs[0].shape[0]

    def latents(frames: NDArray[np.uint8]) -> NDArray[np.floating]:
        size = batch if isinstance(batch, int) else 1
        parts = [part[1] for part in _run(session, graph, frames, size)]
        return np.concatenate(parts)

    ours = session.capabilities
    return Reference(name, latents, {ours.backend: ours.version}, subject)


def _candidates(bundle: Bundle) -> Iterator[_Candidate | Verdict]:
    """All there is to compare; a verdict for what can't run here."""
    for precision, graph in bundle.manifest.encoder.items():
        batch, *clip_shape = graph.inputs[0].shape
        yield _Candidate(
            graph_subject(precision),
            "onnxruntime",
            precision,
            graph_sha256(bundle, graph),
            graph,
            tuple(clip_shape),
            range(batch, batch + 1) if isinstance(batch, int) else range(1, 2**31),
            partial(_open_graph, bundle, precision),
        )
    machine = this_machine()
    for engine in find_engines(bundle):
        key = engine.record.key
        if mismatch := first_mismatch(engine, bundle, machine):
            why = f"{mismatch.what}: built for {mismatch.engine}, here {mismatch.here}"
            yield Verdict(
                engine.plan.name, key.flavour, key.precision, runs=False, passed=False, why=why
            )
            continue
        yield _engine_candidate(bundle, engine)


def _open_graph(bundle: Bundle, precision: Precision) -> Session:
    return open_encoder(bundle, backend="onnxruntime", precision=precision)[1]


def _engine_candidate(bundle: Bundle, engine: Engine) -> _Candidate:
    key = engine.record.key
    return _Candidate(
        engine.plan.name,
        key.flavour,
        key.precision,
        engine.record.plan.sha256,
        bundle.manifest.encoder[key.precision],
        key.profile.clip,
        range(key.profile.minimum, key.profile.maximum + 1),
        lambda: open_engine(bundle, engine, "verified")[1],
    )


def _judge(comparison: _Comparison, candidate: _Candidate) -> Verdict:
    facts = (candidate.subject, candidate.backend, candidate.precision)
    try:
        session = candidate.open()
    except BackendError as error:
        return Verdict(*facts, runs=False, passed=False, why=str(error))
    sizes = tuple(size for size in comparison.batch_sizes if size in candidate.batches)
    sizes = sizes or (candidate.batches[0],)
    accumulator = ParityAccumulator()
    digest = hashlib.sha256()
    ours = session.capabilities
    try:
        for clips in _clip_sets(candidate):
            # Outside of the inner block: a reference that fails is no fault of the candidate.
            _, clips_sha256 = _known(comparison, clips)
            digest.update(clips_sha256.encode())
            try:
                _compare(comparison, candidate, session, clips, sizes, accumulator)
            except BackendError as error:
                return Verdict(*facts, runs=True, passed=False, why=str(error))
    finally:
        session.close()
    agreement = accumulator.result()
    passed = agreement.passes(candidate.precision)
    stamp = ParityStamp(
        sha256=candidate.sha256,
        reference=comparison.reference.name,
        metrics=_metrics(agreement),
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
    return Verdict(
        *facts, runs=True, passed=passed, agreement=agreement, stamp=stamp if passed else None
    )


def _clip_sets(candidate: _Candidate) -> list[_ClipSet]:
    usual, odd = usual_shape(candidate.clip_shape), odd_shape(candidate.clip_shape)
    sets = [_ClipSet(usual, with_extra=True)]
    return sets if usual == odd else [*sets, _ClipSet(odd, with_extra=False)]


def _clips(comparison: _Comparison, clips: _ClipSet) -> Iterator[Clips]:
    """Clips in parts, each with a name, the same on every call."""
    yield CLIP_NAMES, verification_clips(clips.shape)
    if clips.with_extra and comparison.extra is not None:
        yield from comparison.extra(clips.shape)


def _advance(comparison: _Comparison, clips: int) -> None:
    if comparison.advance is not None:
        comparison.advance(clips)


def _known(comparison: _Comparison, clips: _ClipSet) -> tuple[list[NDArray[np.floating]], str]:
    """The reference's latents of clips, and the clips' digest."""
    if clips not in comparison.known:
        digest = hashlib.sha256()
        latents = []
        for _, frames in _clips(comparison, clips):
            digest.update(f"{list(frames.shape)}".encode())
            digest.update(frames.tobytes())
            parts = []
            for i in range(len(frames)):
                parts.append(comparison.reference.latents(frames[i : i + 1]))
                _advance(comparison, 1)
            latents.append(np.concatenate(parts))
        comparison.known[clips] = latents, digest.hexdigest()
    return comparison.known[clips]


def _compare(
    comparison: _Comparison,
    candidate: _Candidate,
    session: Session,
    clips: _ClipSet,
    sizes: Sequence[int],
    accumulator: ParityAccumulator,
) -> None:
    expected, _ = _known(comparison, clips)
    for (names, frames), latents in zip(_clips(comparison, clips), expected, strict=True):
        labels = [f"{name} {list(frames.shape[1:])}" for name in names]
        for size in sizes:
            first = 0
            for ids, ours in _run(session, candidate.graph, frames, size):
                part = slice(first, first + len(ours))
                accumulator.add(ours, latents[part], ids, labels[part])
                _advance(comparison, len(ours))
                first = part.stop


def _run(
    session: Session, graph: GraphRecord, frames: NDArray[np.uint8], size: int
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.floating]]]:
    """Ids and latents of clips, in batches of exactly `size`; ids are those of the same run."""
    spec = graph.inputs[0]
    for batch, new in in_batches(frames, size):
        check_array("the clips", batch, spec)
        ids, latents = session.run({spec.name: batch}, ["ids", "latents"])
        yield ids[:new], latents[:new]


def _metrics(agreement: Agreement) -> ParityMetrics:
    return ParityMetrics(
        **{name: getattr(agreement, name) for name in ParityMetrics.__struct_fields__}
    )
