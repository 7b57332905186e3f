"""Counters of what actors of Ray do, for Prometheus: Ray shows them at its own metrics endpoint.

Ray puts `ray_` before the names. docs/observability.md has the table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from magvit_runtime.bundle.manifest import Role
from magvit_runtime.errors import InputError

CLIPS, REFUSED, SECONDS = "magvit_clips_total", "magvit_clips_refused_total", "magvit_batch_seconds"
_LABELS = ("role", "model")
# Seconds: from a tiny model on a GPU to full size on a CPU.
_BOUNDARIES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]


class ClipMetrics:
    """Counts clips, in a process of a Ray cluster; elsewhere it counts nothing.

    Args:
        model: Name of the model that takes the clips.
        role: What it does with them.
    """

    def __init__(self, model: str, role: Role = "encode") -> None:
        ray = sys.modules.get("ray")
        self._is_on = ray is not None and ray.is_initialized()
        if not self._is_on:
            return
        from ray.util.metrics import Counter, Histogram

        labels = {"role": role, "model": model}
        self._clips = _labelled(Counter(CLIPS, "Clips tokenized", _LABELS), labels)
        self._refused = _labelled(Counter(REFUSED, "Clips refused as bad input", _LABELS), labels)
        self._seconds = _labelled(
            Histogram(SECONDS, "Seconds that a batch took", _BOUNDARIES, _LABELS), labels
        )

    @contextmanager
    def batch(self, clips: int) -> Iterator[None]:
        """Counts a batch that the block tokenizes, or refuses by an `InputError`.

        Args:
            clips: How many it has.
        """
        if not self._is_on or clips == 0:
            yield
            return
        begin = perf_counter()
        try:
            yield
        except InputError:
            self.refuse(clips)
            raise
        self._seconds.observe(perf_counter() - begin)
        self._clips.inc(clips)

    def refuse(self, clips: int) -> None:
        """Counts clips that can't be tokenized."""
        if self._is_on and clips:
            self._refused.inc(clips)


def _labelled(metric: Any, labels: dict[str, str]) -> Any:
    return metric.set_default_tags(labels)
