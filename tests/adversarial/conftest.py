"""The sound bundle that all hostile ones are made from."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from known_profiles import profile_of

from magvit_runtime.backends.trt.engines import ENGINES_FOLDER
from magvit_runtime.bundle.engine_records import (
    ENGINE_SCHEMA_VERSION,
    EngineKey,
    EngineRecord,
)
from magvit_runtime.bundle.manifest import FileRecord
from magvit_runtime.bundle.reading import graph_sha256, open_bundle
from magvit_runtime.quantizers.specs import LfqSpec

GRID = (2, 2, 2)


@pytest.fixture(scope="session")
def sound_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, a classifier of grids of 2x2x2, and an engine whose plan is no engine."""
    from magvit_export.training.classifier_training import train_classifier
    from magvit_export.training.options import TrainingOptions
    from magvit_runtime.results.token_files import TokenFileInfo, TokenTable

    path = tmp_path_factory.mktemp("sound") / "bundle"
    shutil.copytree(tiny_bundle, path)
    tokens = np.random.default_rng(0).integers(2**18, size=(24, *GRID), dtype=np.int32)
    names = tuple(map(str, range(24)))
    info = TokenFileInfo(
        "trajectory-small", "seeded", None, LfqSpec(bits=18, bit_order="lsb-first"), GRID
    )
    table = TokenTable(info, names, ("circle", "line", "zigzag") * 8, tokens)
    train_classifier(path, table, TrainingOptions(holdout=0))
    write_engine(path)
    return path


def write_engine(path: Path) -> None:
    bundle = open_bundle(path)
    folder = path / ENGINES_FOLDER
    folder.mkdir()
    content = b"no plan" * 100
    key = EngineKey(
        role="encode",
        flavour="tensorrt-rtx",
        version="1.2.0.54",
        cuda="13",
        sms=("8.6", "8.9"),
        gpu=None,
        precision="fp32",
        profiles=(profile_of(1, 2, 4, (17, 128, 128, 3)),),
        onnx_sha256=graph_sha256(bundle, bundle.graphs("encode")["fp32"]),
        plugin_interface=1,
        options={"version_compatible": True, "workspace": 2**30, "tiling": None},
    )
    record = EngineRecord(
        schema_version=ENGINE_SCHEMA_VERSION,
        key=key,
        plan=FileRecord(len(content), hashlib.sha256(content).hexdigest()),
        layers=(),
        plugin_layers={"LFQ": 1},
        plugin_sha256="0" * 64,
        build_seconds=1.5,
        machine="a machine",
        created="2026-01-01T00:00:00+00:00",
    )
    (folder / f"{key.name}.plan").write_bytes(content)
    (folder / f"{key.name}.json").write_bytes(msgspec.json.encode(record))
