"""The tables of the parity suite: one line per model, and one per way to run it.

tests/golden/ holds what the reference implementation computed in float64; its weights follow from
their names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from seeded_checkpoints import golden

from magvit_export.families.magvit.config import TokenizerConfig
from magvit_runtime.backends.native.backend import why_no_cuda
from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.hardware.flavours import INSTALL, installed_flavours
from magvit_runtime.hardware.gpus import list_gpus
from magvit_runtime.hardware.machine import Machine

Variant = Literal["raw", "ema"]


@dataclass(frozen=True)
class Model:
    """An architecture with golden values.

    Attributes:
        fixture: File of tests/golden/.
        entry: Entry of the catalog that it is exported as.
        topology: Which of the file's architectures, where it has several.
        marks: Marks of its tests.
    """

    fixture: str
    entry: str
    topology: str | None = None
    marks: tuple[pytest.MarkDecorator, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        return self.topology or self.fixture

    @property
    def config(self) -> TokenizerConfig:
        config = json.loads(str(arrays(self.fixture)["meta"]))["config"]
        if self.topology is not None:
            config = config[self.topology] | {"dims": 2}
        return TokenizerConfig(**config | {"ch_mult": tuple(config["ch_mult"])})

    def cases(self, variant: Variant) -> list[str]:
        """Shapes of clips, or the topology of images."""
        cases = [name.split(".")[0] for name in arrays(self.fixture) if f".z_{variant}" in name]
        return [case for case in cases if self.topology in (None, case)]

    def value(self, case: str, name: str) -> NDArray[Any]:
        return arrays(self.fixture)[f"{case}.{name}"]

    def frames(self, case: str) -> NDArray[np.uint8]:
        return arrays(self.fixture)["x" if self.topology else f"{case}.x"]


@dataclass(frozen=True)
class Way:
    """What runs a model, in which precision.

    Attributes:
        backend: "pytorch", or a backend of the runtime.
        precision: "fp64" for PyTorch, or the precision of the graph.
        rule: Precision whose limit holds; kernels may round more than the graph does.
    """

    backend: str
    precision: Precision | Literal["fp64"]
    rule: Precision | Literal["fp64"]

    @property
    def name(self) -> str:
        return f"{self.backend} {self.precision}"


MODELS = (
    Model("video_small", "trajectory-small"),
    Model("image_small", "open-magvit2-image-256", "16x_z18"),
    Model("image_small", "open-magvit2-image-256", "16x_z14"),
    Model("image_small", "open-magvit2-image-256", "8x_z18"),
    Model("video_full", "open-magvit2-video-128", marks=(pytest.mark.full_size,)),
)

WAYS = (
    Way("pytorch", "fp64", rule="fp64"),
    Way("pytorch", "fp32", rule="fp32"),
    Way("onnxruntime", "fp32", rule="fp32"),
    Way("onnxruntime", "fp16", rule="fp16"),
    Way("native", "fp32", rule="fp32"),
    Way("native-cuda", "fp32", rule="fp32"),
    Way("native-cuda", "fp16", rule="fp16"),
    Way("tensorrt", "fp32", rule="tf32"),
    Way("tensorrt", "fp16", rule="fp16"),
    Way("tensorrt-rtx", "fp32", rule="tf32"),
    Way("tensorrt-rtx", "fp16", rule="fp16"),
)


@cache
def arrays(fixture: str) -> Mapping[str, NDArray[Any]]:
    return dict(golden(fixture))


def why_not_here(way: Way) -> str:
    """Why this machine can't run a way; "" if it can."""
    if way.backend == "pytorch":
        return ""
    if way.backend == "onnxruntime" and not find_spec("onnxruntime"):
        return "pip install 'magvit-runtime[cpu]'"
    if way.backend == "native-cuda":
        return why_no_cuda(Machine(), way.precision)
    if way.backend in INSTALL:
        if not list_gpus():
            return "no NVIDIA GPU here (nvidia-smi lists none)"
        if way.backend not in installed_flavours() or find_spec("cuda") is None:
            return f"{way.backend} is not installed: {INSTALL[way.backend]}"
    return ""
