"""Encoders and decoders of the parity suite's models, each made once."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity.suite import Model, Variant, Way
from seeded_checkpoints import model_shapes, published_tensors, write_checkpoint

from magvit_export.catalog import find_model
from magvit_export.checkpoints.reading import load_weights
from magvit_export.checkpoints.seeded import seeded_state
from magvit_export.engines import BuildOptions, build_engine, plan_build
from magvit_export.exporting import export_model
from magvit_export.families.magvit.family import FAMILY
from magvit_export.families.magvit.tokenizer import MagvitTokenizer, empty_tokenizer
from magvit_export.layers.lfq import quantize
from magvit_runtime import BackendError, Detokenizer, InputError, Tokenizer, open_bundle
from magvit_runtime.bundle.manifest import Precision, Role
from magvit_runtime.hardware.machine import Machine

Encoded = tuple[NDArray[np.floating], NDArray[np.integer]]


class Encoders:
    """Checkpoints, bundles and engines in a folder, made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoint = cache(self._checkpoint)
        self.bundle = cache(self._bundle)

    def encode(
        self, model: Model, variant: Variant, way: Way, frames: NDArray[np.uint8]
    ) -> Encoded:
        """Latents [N, bits, ...] and ids [N, ...] of frames."""
        if way.backend == "pytorch":
            dtype = torch.float64 if way.precision == "fp64" else torch.float32
            with torch.no_grad():
                latents = self.pytorch(model, variant, dtype).latents(torch.from_numpy(frames))
            assert latents.dtype == dtype
            return latents.numpy(), quantize(latents).numpy()
        assert way.precision != "fp64"
        bundle = self.bundle(model, variant, way.precision)
        if way.backend.startswith("tensorrt"):
            build(bundle, way, frames)
        options: dict[str, Any] = {"backend": way.backend, "precision": way.precision}
        with Tokenizer.open(bundle, **options, batch_size=len(frames)) as tokenizer:
            return tokenizer.latents(frames), tokenizer(frames)

    def decode(self, model: Model, way: Way, ids: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Frames of ids, of the raw weights."""
        assert way.precision != "fp64"
        bundle = self.bundle(model, "raw", way.precision, "decode")
        options: dict[str, Any] = {"backend": way.backend, "precision": way.precision}
        with Detokenizer.open(bundle, **options, batch_size=len(ids)) as detokenizer:
            return detokenizer(ids)

    def pytorch(self, model: Model, variant: Variant, dtype: torch.dtype) -> MagvitTokenizer:
        shapes = model_shapes(model.config)
        if variant == "raw":
            state = seeded_state(shapes)
        else:
            state = load_weights(
                self.checkpoint(model), shapes, ("encoder.", "decoder."), FAMILY.spellings, "ema"
            ).state
        tokenizer = empty_tokenizer(model.config)
        state = {key: value.to(dtype) for key, value in state.items()}
        tokenizer.load_state_dict(state, assign=True)
        return tokenizer.requires_grad_(False)

    def _checkpoint(self, model: Model) -> Path:
        """Raw and EMA weights, as Open-MAGVIT2 publishes its own."""
        path = self.folder / f"{model.name}.ckpt"
        return write_checkpoint(path, published_tensors(model.config))

    def _bundle(
        self, model: Model, variant: Variant, precision: Precision, role: Role = "encode"
    ) -> Path:
        path = self.folder / f"{model.name}.{variant}.{precision}.{role}"
        export_model(
            find_model(model.entry),
            path,
            weights="seeded" if variant == "raw" else str(self.checkpoint(model)),
            roles=[role],
            config=model.config,
            precision=precision,
        )
        return path


def build(bundle: Path, way: Way, frames: NDArray[np.uint8]) -> None:
    """Puts an engine for clips of this size into a bundle, and removes other engines."""
    shutil.rmtree(bundle / "engines", ignore_errors=True)
    sizes = dict(zip(("width", "height", "frames"), frames.shape[-2:0:-1], strict=False))
    batch = len(frames)
    options: Any = {"flavour": way.backend, "precision": way.precision} | sizes
    opened = open_bundle(bundle)
    try:
        plan = plan_build(opened, BuildOptions(profile=f"1/{batch}/{batch}", **options), Machine())
    except (BackendError, InputError) as error:
        pytest.skip(f"no engine can be built here: {error}")
    build_engine(opened, plan)
