"""`magvit export`: checkpoint to bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.files.outputs import check_outputs


def export(
    model: str,
    *,
    weights: str,
    output: Annotated[Path, Parameter(alias="-o")],
    variant: Literal["ema", "raw"] | None = None,
    config: Path | None = None,
    precision: Precision = "fp32",
    residual: Literal["fp32"] | None = None,
    batch: int | None = None,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Outcome:
    """Exports a checkpoint's encoder and quantizer to an ONNX bundle.

    Args:
        model: Name of the model; `magvit models` lists them.
        weights: Path of a checkpoint (a pickle or safetensors, the index of its shards, or a
            folder with one of these), `hub`, `seeded` or `seeded:N`.
        output: Directory of the bundle. An existing bundle of the same weights gains this
            precision.
        variant: Which weights of the checkpoint; EMA where it has them.
        config: JSON or YAML file with what differs from the model's architecture, for fine-tuned
            variants: the reference's ddconfig, or its whole configuration. Without one, a bundle of
            the first schema in the output directory keeps its own.
        precision: Precision of the graph. tf32 is the fp32 graph, where convs may round to TF32.
        residual: fp32 keeps the residual stream of a half-precision graph in float32.
        batch: Fixes the batch size; any by default.
        frames: Fixes the number of frames; any by default.
        height: Fixes the height in pixels; any by default.
        width: Fixes the width in pixels; any by default.
    """
    from magvit_export.catalog import find_model
    from magvit_export.exporting import export_model, written_files
    from magvit_export.families.family import ClipSizes, find_family, read_config

    entry = find_model(model)
    written = (output / name for name in written_files(find_family(entry.family).roles, precision))
    check_outputs(*written, inputs=(Path(weights), config))
    bundle = export_model(
        entry,
        output,
        weights=weights,
        variant=variant,
        config=read_config(config, find_family(entry.family).config, entry.config)
        if config
        else None,
        precision=precision,
        residual=residual,
        sizes=ClipSizes(batch, frames, height, width),
    )
    label = weights_label(bundle)
    facts = {
        "bundle": str(output),
        "model": model,
        "precision": precision,
        "weights": label,
        "files": {name: record.size for name, record in bundle.manifest.files.items()},
    }
    size = sum(record.size for record in bundle.manifest.files.values())
    return Outcome(facts, f"{model} ({precision}), {label} -> {output} ({size / 1e6:.0f} MB)")
