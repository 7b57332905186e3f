"""Engines that the stand-in for TensorRT runs, with sidecars."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from known_profiles import profile_of

from magvit_runtime.backends.trt.engines import Engine
from magvit_runtime.bundle.engine_records import (
    ENGINE_SCHEMA_VERSION,
    EngineKey,
    EngineRecord,
    Profile,
)
from magvit_runtime.bundle.manifest import FileRecord
from magvit_runtime.types import Flavour

CLIP = (2, 3, 4, 3)
PROFILE = profile_of(1, 4, 16, CLIP)


def write_engine(
    folder: Path,
    flavour: Flavour = "tensorrt",
    content: bytes | None = None,
    profiles: tuple[Profile, ...] = (PROFILE,),
    weights: dict[str, list[Any]] | None = None,
    **options: bool,
) -> Engine:
    """A plan of the stand-in, or of any bytes, with a sidecar that says what it should be."""
    plan = folder / "bundle" / "engines" / "engine.plan"
    plan.parent.mkdir(parents=True, exist_ok=True)
    plan.write_bytes(plan_of(profiles, weights) if content is None else content)
    key = EngineKey(
        role="encode",
        flavour=flavour,
        version="1",
        cuda="13",
        sms=("8.9",),
        gpu=None,
        precision="fp16",
        profiles=profiles,
        onnx_sha256="",
        plugin_interface=None,
        options=dict(options),
    )
    digest = hashlib.sha256(plan.read_bytes()).hexdigest()
    record = EngineRecord(
        schema_version=ENGINE_SCHEMA_VERSION,
        key=key,
        plan=FileRecord(plan.stat().st_size, digest),
        layers=(),
        plugin_layers={},
        plugin_sha256=None,
        build_seconds=1.0,
        machine="",
        created="",
    )
    return Engine(plan, record)


def plan_of(profiles: tuple[Profile, ...], weights: dict[str, list[Any]] | None = None) -> bytes:
    """A plan as the stand-in reads it."""
    shapes = [[p["frames"].minimum, p["frames"].optimum, p["frames"].maximum] for p in profiles]
    return json.dumps({"profiles": shapes, "weights": weights}).encode()


def clips_of(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, *CLIP), np.uint8)


def ids_of(clips: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return clips.sum(-1, dtype=np.int32)
