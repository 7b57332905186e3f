"""The model for `--smoke`: tiny and seeded, so its figures mean nothing."""

from __future__ import annotations

from pathlib import Path

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.families.magvit.config import TokenizerConfig

SMOKE_HELP = "a tiny model and as few runs as possible: only shows that the script works"


def tiny_bundle(folder: Path) -> Path:
    """Two levels with one block each, in float32."""
    config = TokenizerConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1)
    path = folder / "bundle"
    export_model(find_model("trajectory-small"), path, weights="seeded", config=config)
    return path
