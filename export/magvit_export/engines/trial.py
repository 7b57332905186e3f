"""The first run of a new engine: on the bundle's canary, if it runs on this machine."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from magvit_export.engines.failures import BuildError
from magvit_runtime.backends.backend import Candidate, Opening
from magvit_runtime.backends.canary import run_canary
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.backends.trt.engines import Engine
from magvit_runtime.bundle.canary import verify_command
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.errors import BackendError, BundleError
from magvit_runtime.files.atomic_write import atomic_path


@dataclass(frozen=True)
class Trial:
    """What a new engine gave.

    Attributes:
        outputs: Digest of the ids, or of all outputs, on the canary; None if it wasn't run.
        why_not: Why it wasn't; "" if it was.
    """

    outputs: str | None
    why_not: str = ""


def try_engine(bundle: Bundle, engine: Engine) -> Trial:
    """Runs a new engine on the bundle's canary, and puts the digest of what it gave in its sidecar.

    Raises:
        BuildError: It doesn't give what the model gives, or can't be opened; it is removed.
    """
    role = engine.record.key.role
    if role not in bundle.manifest.canaries:
        return Trial(None, f"the bundle has no canary ({verify_command(bundle, role)})")
    name = engine.plan.name
    ways = list_candidates(bundle, role).engines
    way = next(way for way in ways if way.subject == name)
    if not isinstance(way, Candidate):
        return Trial(None, way.why)
    sidecar = engine.plan.with_suffix(".json")
    try:
        session = way.open(Opening("built"))
        try:
            outputs = run_canary(bundle, way, session)
        finally:
            session.close()
    except BackendError as error:
        for path in (sidecar, engine.plan):
            path.unlink(missing_ok=True)
        raise BuildError(
            f"the new engine {name} isn't the model, and was removed",
            found=str(error),
            mend="build again; if it stays so, use another --precision",
        ) from error
    except BundleError as error:  # Its sizes are other than the canary's.
        return Trial(None, error.what)
    record = msgspec.structs.replace(engine.record, canary_outputs=outputs)
    with atomic_path(sidecar) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    return Trial(outputs)
