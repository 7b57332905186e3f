"""Tries a session on an item whose outputs are known: is it still the model?"""

from __future__ import annotations

import hashlib
import logging

from magvit_runtime.agreement import new_comparison
from magvit_runtime.backends.backend import Candidate, Session
from magvit_runtime.backends.running import run_clips
from magvit_runtime.bundle.canary import CanaryItem, read_canary, verify_command
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.errors import BackendError, BundleError
from magvit_runtime.tracing import span

_LOG = logging.getLogger(__name__)


def run_canary(bundle: Bundle, candidate: Candidate, session: Session) -> str:
    """Runs one item of a bundle's canary, in the time of one item.

    What a session gives must agree with the reference as well as `magvit verify` asks of its
    precision. A changed driver, a damaged GPU or an engine of another model don't.

    Args:
        bundle: The bundle.
        candidate: What was opened.
        session: The session.

    Returns:
        Digest of the ids, or of all outputs where there are none: two engines of equal digests give
        the same ones.

    Raises:
        BundleError: The bundle has no canary that this candidate takes, or it was changed.
        BackendError: The session failed, or gives something else than the model.
    """
    item = _smallest(bundle, candidate)
    comparison = new_comparison(candidate.graph)
    size = candidate.batches[0]
    with span("canary", lambda: {"canary": item.name}):
        (found,) = run_clips(session, candidate.graph, comparison.kinds, item.given, size)
    comparison.add(found, item.outputs, [item.name])
    agreement = comparison.result()
    passes = agreement.passes(candidate.precision)
    _LOG.info(
        "canary %s on %s: %s",
        item.name,
        candidate.subject,
        agreement.summary,
        extra={"role": candidate.role, "subject": candidate.subject, "passes": passes},
    )
    if not passes:
        raise BackendError(
            f"{candidate.subject} doesn't give what {bundle.path} must give",
            found=f"on the canary {item.name!r}, {agreement.summary}",
            mend=f"{verify_command(bundle, candidate.role)}, then build its engines again",
        )
    digest = hashlib.sha256()
    for kind in ("ids",) if "ids" in found else comparison.kinds:
        digest.update(f"{found[kind].dtype} {found[kind].shape}".encode() + found[kind].tobytes())
    return digest.hexdigest()


def _smallest(bundle: Bundle, candidate: Candidate) -> CanaryItem:
    items = read_canary(bundle, candidate.role)
    fitting = [item for item in items if candidate.takes(item.given.shape[1:])]
    if not fitting:
        raise BundleError(
            f"no canary of {bundle.path} fits {candidate.subject}",
            found=", ".join(str(list(item.given.shape[1:])) for item in items),
            expected=list(candidate.clip_shape),
            mend=verify_command(bundle, candidate.role),
        )
    return min(fitting, key=lambda item: item.given.size)
