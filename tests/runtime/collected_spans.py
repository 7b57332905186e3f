"""Spans that OpenTelemetry's SDK collects in a test."""

from __future__ import annotations

from typing import Any

import pytest


class CollectedSpans:
    """The spans that have ended.

    Args:
        exporter: Of the SDK; keeps them in memory.
    """

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    def take(self) -> list[Any]:
        """Those since the last call, in the order of their beginnings."""
        found = sorted(self._exporter.get_finished_spans(), key=lambda one: one.start_time)
        self._exporter.clear()
        return found


def collect_spans(monkeypatch: pytest.MonkeyPatch) -> CollectedSpans:
    """Gives a test a provider; that of the process can be set once, for all later tests."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return CollectedSpans(exporter)


def children(found: list[Any], parent: Any) -> list[str]:
    """Names of the spans directly below one."""
    return [
        one.name
        for one in found
        if one.parent is not None and one.parent.span_id == parent.context.span_id
    ]
