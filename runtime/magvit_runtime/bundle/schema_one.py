"""Bundles of the first schema, with one encoder and no roles: the facts that an export needs.

Nothing else in them is read; `magvit_runtime.bundle.reading` refuses to open them.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from magvit_runtime.bundle.manifest import Precision, WeightsRecord


class SchemaOneGraph(msgspec.Struct, frozen=True):
    """An encoder's graph.

    Attributes:
        residual: "fp32" if a half-precision graph keeps its residual stream in float32.
    """

    residual: Literal["fp32"] | None = None


class SchemaOne(msgspec.Struct, frozen=True):
    """The facts in a first-schema bundle.json about the export of its encoder.

    Attributes:
        model: Name of the model.
        config: Its architecture.
        weights: Where its weights came from.
        encoder: The encoder's graphs by precision.
    """

    model: str
    config: dict[str, Any]
    weights: WeightsRecord
    encoder: Annotated[dict[Precision, SchemaOneGraph], msgspec.Meta(min_length=1)]

    @property
    def encoder_files(self) -> tuple[str, ...]:
        """Names of the encoder's files, as its exporter called them."""
        graphs = {"fp32" if precision == "tf32" else precision for precision in self.encoder}
        names = [f"encoder.{precision}.onnx" for precision in sorted(graphs)]
        return (*names, *(f"{name}.data" for name in names))

    def export_command(self, directory: Path) -> str:
        """The command that exports the same encoder into its folder, in the present schema.

        If there are several precisions, the command exports float32; each other precision needs
        another export. A checkpoint is named by its file name, because the first schema doesn't
        have its folder.
        """
        weights = "hub" if self.weights.source == "hub" else self.weights.name
        command = ["magvit", "export", self.model, "--weights", weights, "-o", str(directory)]
        if self.weights.variant is not None:
            command += ["--variant", self.weights.variant]
        precision = "fp32" if "fp32" in self.encoder else next(iter(self.encoder))
        command += ["--roles", "encode", "--precision", precision]
        if (residual := self.encoder[precision].residual) is not None:
            command += ["--residual", residual]
        return shlex.join(command)
