"""JSON schemas of the files that benchmarks write, for other tools that read them."""

from __future__ import annotations

import msgspec

from magvit_runtime.benchmarks.load_test import LoadTest
from magvit_runtime.benchmarks.results import Benchmark

# Names of the files in docs/schemas/.
SCHEMAS: dict[str, type] = {"benchmark.json": Benchmark, "load-test.json": LoadTest}


def schema_text(name: str) -> bytes:
    """The schema (JSON Schema 2020-12) of a name of `SCHEMAS`."""
    text = msgspec.json.encode(msgspec.json.schema(SCHEMAS[name]))
    return msgspec.json.format(text, indent=1) + b"\n"
