"""A bundle to build engines from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from seeded_checkpoints import TINY

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "bundle"
    for precision in ("fp32", "fp16"):
        entry = find_model("trajectory-small")
        export_model(
            entry, path, weights="seeded", roles=["encode"], config=TINY, precision=precision
        )
    return path


@pytest.fixture
def engine_bundle(exported: Path, tmp_path: Path) -> Path:
    """A separate copy for each test, because engines are written into bundles."""
    return shutil.copytree(exported, tmp_path / "bundle")
