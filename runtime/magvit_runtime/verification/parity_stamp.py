"""The stamp of a comparison, as it was made here and now."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from magvit_runtime.backends.backend import Capabilities
from magvit_runtime.bundle.manifest import Metrics, ParityStamp


def parity_stamp(
    sha256: str,
    metrics: Metrics,
    *,
    reference: str,
    reference_versions: Mapping[str, str],
    clips_sha256: str,
    batch_sizes: tuple[int, ...],
    ours: Capabilities,
) -> ParityStamp:
    """A stamp with this machine's name, the versions that took part, and the time.

    Args:
        sha256: Digest of the graph with its weights, or of the plan.
        metrics: The measured figures.
        reference: What it was compared with.
        reference_versions: Versions of the software behind the reference.
        clips_sha256: Digest of what was run.
        batch_sizes: Items at once, each size that was run.
        ours: What ran it.
    """
    return ParityStamp(
        sha256=sha256,
        reference=reference,
        metrics=metrics,
        clips_sha256=clips_sha256,
        batch_sizes=batch_sizes,
        versions={
            "magvit-runtime": version("magvit-runtime"),
            "numpy": np.__version__,
            **reference_versions,
            ours.backend: ours.version,
        },
        machine=f"{platform.system()} {platform.machine()}, {ours.device}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
