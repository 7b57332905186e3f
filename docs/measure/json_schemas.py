"""Writes the JSON schemas of benchmark files to docs/schemas/.

python docs/measure/json_schemas.py
python docs/measure/json_schemas.py --smoke     # writes nothing
"""

from __future__ import annotations

import sys
from pathlib import Path

from magvit_runtime.benchmarks.schemas import SCHEMAS, schema_text

if __name__ == "__main__":
    folder = Path(__file__).parents[1] / "schemas"
    folder.mkdir(exist_ok=True)
    for name in SCHEMAS:
        text = schema_text(name)
        if "--smoke" not in sys.argv:
            (folder / name).write_bytes(text)
        print(f"{name}: {len(text)} bytes")
