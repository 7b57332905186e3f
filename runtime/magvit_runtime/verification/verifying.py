"""Compares every graph and engine of a role that runs here with a reference."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from magvit_runtime.agreement import Agreement, Comparison, Outputs, new_comparison
from magvit_runtime.backends.backend import Candidate, Opening, Session, Unfit
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.backends.running import run_clips
from magvit_runtime.bundle.canary import CanaryItem, write_canary
from magvit_runtime.bundle.manifest import ParityStamp, Precision, Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.stamps import write_stamps
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.types import Array
from magvit_runtime.verification.item_sets import ClipSource, Items, ItemSet
from magvit_runtime.verification.parity_stamp import parity_stamp
from magvit_runtime.verification.references import Reference
from magvit_runtime.verification.times import backend_seconds, item_flop


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
        canary: Whether the bundle has a new canary.
    """

    reference: str
    verdicts: tuple[Verdict, ...]
    passed: bool
    stamped: tuple[str, ...]
    unstamped_because: str
    canary: bool


@dataclass
class _Comparison:
    """One run of `verify_bundle`. The reference sees each item of a set once.

    Attributes:
        items: What candidates run.
        advance: Told how many seconds, as estimated, were just done.
        known: The reference's outputs, by their set without its batch sizes.
    """

    items: Items
    advance: Callable[[float], None]
    known: dict[ItemSet, tuple[list[Outputs], str]] = field(default_factory=dict)


def verify_bundle(
    bundle: Bundle,
    reference: Reference,
    *,
    role: Role = "encode",
    extra: ClipSource | None = None,
    batch_sizes: Sequence[int] | None = None,
    thorough: bool = False,
    start: Callable[[float], None] = lambda _: None,
    advance: Callable[[float], None] = lambda _: None,
) -> Verification:
    """Compares a bundle's graphs and engines with a reference; stamps them if all that run agree.

    All files are checked against their digests first. A graph or engine that fails loses its stamp.
    If all agree, the bundle keeps a few items with the reference's outputs as its canary.

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
        thorough: Run all items at the usual size and at all batch sizes, however large they are.
            Otherwise a few, one at a time, are enough of items above `LARGE_FLOP`; all are run at
            the odd size.
        start: Told first how many seconds all of it may take.
        advance: Told after each item how many of these seconds it was worth.

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
    items = Items(given, reference, extra, batch_sizes, thorough)
    comparison = _Comparison(items, advance)
    compared = [found for found in in_order(bundle, role) if found.subject != reference.subject]
    start(_estimate(items, [found for found in compared if isinstance(found, Candidate)]))
    verdicts = [_judge(comparison, found) for found in compared]
    ran = [verdict for verdict in verdicts if verdict.runs]
    passed = bool(ran) and all(verdict.passed for verdict in ran)
    stamps = {v.subject: v.record for v in ran if passed and v.record is not None}
    problem, canary = "", False
    try:
        write_stamps(
            bundle, role, stamps, [verdict.subject for verdict in ran if not verdict.passed]
        )
        # A graph of the bundle itself proves least; it doesn't replace what another one gave.
        if passed and (reference.subject is None or role not in bundle.manifest.canaries):
            canary = write_canary(bundle, role, _canary_items(comparison), reference.name)
    except InputError as error:  # A read-only bundle can still be verified.
        stamps, problem = {}, str(error)
    return Verification(reference.name, tuple(verdicts), passed, tuple(stamps), problem, canary)


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
    sets = comparison.items.sets(candidate)
    if not sets:
        why = f"the reference has no clips of {list(candidate.clip_shape)}"
        return Verdict(*facts, runs=False, passed=False, why=why)
    try:
        session = candidate.open(Opening("verified"))
    except BackendError as error:
        return Verdict(*facts, runs=False, passed=False, why=str(error))
    measured = new_comparison(candidate.graph)
    digest = hashlib.sha256()
    ours = session.capabilities
    try:
        for chosen in sets:
            # Outside of the inner block: a failing reference is not the candidate's fault.
            _, clips_sha256 = _known(comparison, chosen)
            digest.update(clips_sha256.encode())
            try:
                _compare(comparison, candidate, session, chosen, measured)
            except BackendError as error:
                return Verdict(*facts, runs=True, passed=False, why=str(error))
    finally:
        session.close()
    agreement = measured.result()
    record = parity_stamp(
        candidate.sha256,
        agreement.metrics,
        reference=comparison.items.reference.name,
        reference_versions=comparison.items.reference.versions,
        clips_sha256=digest.hexdigest(),
        batch_sizes=tuple(dict.fromkeys(size for chosen in sets for size in chosen.sizes)),
        ours=ours,
    )
    passed = agreement.passes(candidate.precision)
    return Verdict(*facts, runs=True, passed=passed, agreement=agreement, record=record)


def _canary_items(comparison: _Comparison) -> Iterator[CanaryItem]:
    """The first item of each set: engines of a fixed size take only one of them."""
    for chosen, (outputs, _) in comparison.known.items():
        (names, arrays), *_ = comparison.items.parts(chosen)
        first = {kind: values[:1] for kind, values in outputs[0].items()}
        label = f"{names[0]} {'×'.join(map(str, chosen.shape))}"
        yield CanaryItem(label, arrays[:1], first)


def _estimate(items: Items, candidates: Sequence[Candidate]) -> float:
    """Seconds that candidates and the reference may take."""
    total = 0.0
    seen = set()
    for candidate in candidates:
        for chosen in items.sets(candidate):
            for _, arrays in items.parts(chosen):
                total += len(chosen.sizes) * len(arrays) * _item_seconds(candidate, chosen)
                if _of_reference(chosen) not in seen:
                    total += sum(map(items.reference.seconds, _one_by_one(arrays)))
            seen.add(_of_reference(chosen))
    return total


def _item_seconds(candidate: Candidate, chosen: ItemSet) -> float:
    return backend_seconds(candidate.backend, item_flop(candidate.graph, chosen.shape))


def _of_reference(chosen: ItemSet) -> ItemSet:
    """A set as the reference sees it: it runs one item at a time, whatever a candidate does."""
    return replace(chosen, sizes=())


def _one_by_one(arrays: Array) -> Iterator[Array]:
    return (arrays[i : i + 1] for i in range(len(arrays)))


def _known(comparison: _Comparison, chosen: ItemSet) -> tuple[list[Outputs], str]:
    """The reference's outputs for the items of a set, and the items' digest."""
    key = _of_reference(chosen)
    reference = comparison.items.reference
    if key not in comparison.known:
        digest = hashlib.sha256()
        outputs: list[Outputs] = []
        for _, arrays in comparison.items.parts(chosen):
            digest.update(f"{list(arrays.shape)}".encode())
            digest.update(arrays.tobytes())
            parts = []
            for item in _one_by_one(arrays):
                seconds = reference.seconds(item)
                parts.append(reference.run(item))
                comparison.advance(seconds)
            kinds = parts[0].keys()
            outputs.append({kind: np.concatenate([p[kind] for p in parts]) for kind in kinds})
        comparison.known[key] = outputs, digest.hexdigest()
    return comparison.known[key]


def _compare(
    comparison: _Comparison,
    candidate: Candidate,
    session: Session,
    chosen: ItemSet,
    measured: Comparison,
) -> None:
    expected, _ = _known(comparison, chosen)
    parts = comparison.items.parts(chosen)
    seconds = _item_seconds(candidate, chosen)
    for (names, arrays), reference in zip(parts, expected, strict=True):
        shape = arrays.shape[1:-1] if comparison.items.given.kind == "pixels" else arrays.shape[1:]
        labels = [f"{name} {'×'.join(map(str, shape))}" for name in names]
        for size in chosen.sizes:
            first = 0
            for ours in run_clips(session, candidate.graph, measured.kinds, arrays, size):
                part = slice(first, first + len(ours[measured.kinds[0]]))
                expected_part = {kind: values[part] for kind, values in reference.items()}
                measured.add(ours, expected_part, labels[part])
                comparison.advance(seconds * (part.stop - part.start))
                first = part.stop
