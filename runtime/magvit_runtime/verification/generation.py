"""Compares the graphs that generate tokens with a reference, in teacher-forced logits.

The two graphs run as they do in a generation, with a cache between them, so one comparison is of
both, and stamps both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.agreement.logits import LogitAccumulator
from magvit_runtime.backends.backend import Candidate, Unfit
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.bundle.manifest import GenerationSpec, ParityStamp, Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.stamps import write_stamps
from magvit_runtime.clips.sample_ids import verification_ids
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.generator import Generator
from magvit_runtime.quantizers.vocabulary import vocabulary_size
from magvit_runtime.types import Array
from magvit_runtime.verification.parity_stamp import parity_stamp
from magvit_runtime.verification.verifying import Verdict, Verification, in_order

ROLES: tuple[Role, ...] = ("context", "subtokens")


@dataclass(frozen=True)
class LogitReference:
    """What graphs that generate are compared with.

    Attributes:
        name: What it is, for people and for the stamp.
        run: Classes int32 [N] and ids int32 [N, rows, columns] -> logits of both parts of each
            token, [N, positions, values] each.
        versions: Versions of the software behind it.
        subject: Name of the bundle's own graphs that it is; None where it is none of them.
    """

    name: str
    run: Callable[[Array, Array], tuple[Array, Array]]
    versions: Mapping[str, str]
    subject: str | None = None


def verify_generation(
    bundle: Bundle,
    reference: LogitReference,
    *,
    start: Callable[[float], None] = lambda _: None,
    advance: Callable[[float], None] = lambda _: None,
) -> Verification:
    """Compares every way to generate here with a reference; stamps both graphs of those that agree.

    All files are checked against their digests first. If one that runs fails, none is stamped, and
    those that fail lose their stamps.

    Args:
        bundle: A bundle that generates.
        reference: What its graphs are compared with.
        start: Told first how many parts there are, each of about the same time.
        advance: Told after each part.

    Raises:
        BundleError: A file is missing or was changed.
        BackendError: The reference failed.
    """
    for name in bundle.manifest.files:
        bundle.verified_file(name)
    spec = bundle.manifest.generation
    assert spec is not None  # The caller made sure of it.
    classes, ids = _samples(bundle, spec)
    compared = [one for one in in_order(bundle, "context") if one.subject != reference.subject]
    start(1 + len(compared))
    expected = reference.run(classes, ids)
    advance(1)
    verdicts = []
    for found in compared:
        verdicts.append(_judge(bundle, reference, found, classes, ids, expected))
        advance(1)
    ran = [verdict for verdict in verdicts if verdict.runs]
    passed = bool(ran) and all(verdict.passed for verdict in ran)
    stamps = {v.subject: v.record for v in ran if passed and v.record is not None}
    failed = [verdict.subject for verdict in ran if not verdict.passed]
    problem = ""
    try:
        for role in ROLES:
            digests = {one.subject: one.sha256 for one in list_candidates(bundle, role).fit}
            own = {
                name: _of_graph(stamp, digests[name])
                for name, stamp in stamps.items()
                if name in digests
            }
            write_stamps(bundle, role, own, failed)
    except InputError as error:  # A read-only bundle can still be verified.
        stamps, problem = {}, str(error)
    return Verification(reference.name, tuple(verdicts), passed, tuple(stamps), problem, False)


def _samples(bundle: Bundle, spec: GenerationSpec) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The first, the last and the null class, with ids of every kind."""
    ids = verification_ids(spec.grid, vocabulary_size(bundle.tokens.quantizer))
    return np.array([0, spec.classes - 1, spec.classes], np.int32), ids


def _of_graph(stamp: ParityStamp, sha256: str) -> ParityStamp:
    return msgspec.structs.replace(stamp, sha256=sha256)


def _judge(
    bundle: Bundle,
    reference: LogitReference,
    found: Candidate | Unfit,
    classes: NDArray[np.int32],
    ids: NDArray[np.int32],
    expected: tuple[Array, Array],
) -> Verdict:
    facts = (found.subject, found.backend, found.precision)
    if isinstance(found, Unfit):
        return Verdict(*facts, runs=False, passed=False, why=found.why)
    try:
        generator = Generator.open(
            bundle.path, backend=found.backend, precision=found.precision, batch_size=1
        )
    except BackendError as error:
        return Verdict(*facts, runs=False, passed=False, why=str(error))
    measured = LogitAccumulator()
    with generator:
        ours = generator.capabilities
        try:
            logits = generator.logits(classes, ids)
        except BackendError as error:
            return Verdict(*facts, runs=True, passed=False, why=str(error))
    for part, theirs in zip(logits, expected, strict=True):
        measured.add(part, theirs)
    agreement = measured.result()
    record = parity_stamp(
        found.sha256,
        agreement.metrics,
        reference=reference.name,
        reference_versions=reference.versions,
        clips_sha256=hashlib.sha256(classes.tobytes() + ids.tobytes()).hexdigest(),
        batch_sizes=(1,),
        ours=ours,
    )
    passed = agreement.passes(found.precision)
    return Verdict(*facts, runs=True, passed=passed, agreement=agreement, record=record)
