"""Writes the JSON schemas of benchmark files to docs/schemas/.

python docs/measure/json_schemas.py
"""

from __future__ import annotations

from pathlib import Path

from magvit_runtime.benchmarks.schemas import SCHEMAS, schema_text

if __name__ == "__main__":
    folder = Path(__file__).parents[1] / "schemas"
    folder.mkdir(exist_ok=True)
    for name in SCHEMAS:
        (folder / name).write_bytes(schema_text(name))
