"""`magvit export`: checkpoint to bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from cyclopts import Parameter

from magvit_runtime.bundle.manifest import Precision, Role
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.errors import InputError
from magvit_runtime.files.outputs import check_outputs


def export(
    model: str,
    *,
    weights: str,
    output: Annotated[Path, Parameter(alias="-o")],
    roles: str | None = None,
    variant: Literal["ema", "raw"] | None = None,
    config: Path | None = None,
    precision: Precision = "fp32",
    residual: Literal["fp32"] | None = None,
    batch: int | None = None,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Outcome:
    """Exports a checkpoint's encoder and decoder to an ONNX bundle, a graph each.

    Args:
        model: Name of the model; `magvit models` lists them.
        weights: Path of a checkpoint (a pickle or safetensors, the index of its shards, or a
            folder with one of these), `hub`, `seeded` or `seeded:N`.
        output: Directory of the bundle. An existing bundle of the same weights gains this
            precision or role.
        roles: What to export, separated by commas: encode, decode. All that the checkpoint has
            weights for by default.
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
    from magvit_export.exporting import ExportedRole, export_model, written_files
    from magvit_export.families.family import ClipSizes, find_family, read_config

    entry = find_model(model)
    chosen = None if roles is None else _roles(roles)
    written = written_files(chosen or find_family(entry.family).roles, precision)
    check_outputs(*(output / name for name in written), inputs=(Path(weights), config))
    done: list[ExportedRole] = []
    bundle = export_model(
        entry,
        output,
        weights=weights,
        roles=chosen,
        variant=variant,
        config=read_config(config, find_family(entry.family).config, entry.config)
        if config
        else None,
        precision=precision,
        residual=residual,
        sizes=ClipSizes(batch, frames, height, width),
        advance=done.append,
    )
    label = weights_label(bundle)
    facts = {
        "bundle": str(output),
        "model": model,
        "precision": precision,
        "weights": label,
        "roles": {one.role: {"seconds": one.seconds, "bytes": one.size} for one in done},
        "files": {name: record.size for name, record in bundle.manifest.files.items()},
    }
    size = sum(record.size for record in bundle.manifest.files.values())
    lines = [f"{model} ({precision}), {label} -> {output} ({size / 1e6:.0f} MB)"]
    lines += [f"  {one.role}: {one.seconds:.1f} s, {one.size / 1e6:.0f} MB" for one in done]
    return Outcome(facts, "\n".join(lines))


def _roles(text: str) -> list[Role]:
    names = [name.strip() for name in text.split(",")]
    try:
        return msgspec.convert(names, list[Role])
    except msgspec.ValidationError as error:
        raise InputError(
            "--roles names what isn't one",
            found=text,
            expected=", ".join(get_args(Role)),
        ) from error
