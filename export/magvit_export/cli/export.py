"""`magvit export`: checkpoint to bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec
from cyclopts import Parameter

from magvit_runtime.bundle.manifest import Precision, Role
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.errors import InputError, MagvitError
from magvit_runtime.files.outputs import check_outputs
from magvit_runtime.types import ComputePrecision

if TYPE_CHECKING:  # It takes a moment to import, and bad arguments are told at once.
    from magvit_export.catalog import CatalogEntry

EVERY_MODEL = "all"


def export(
    model: str,
    *,
    weights: str,
    output: Annotated[Path, Parameter(alias="-o")],
    roles: str | None = None,
    variant: Literal["ema", "raw"] | None = None,
    tokenizer: str | None = None,
    config: Path | None = None,
    precision: ComputePrecision = "fp32",
    weights_precision: Literal["int8"] | None = None,
    residual: Literal["fp32"] | None = None,
    batch: int | None = None,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Outcome:
    """Exports a checkpoint to an ONNX bundle: an encoder and decoder, or what generates tokens.

    Args:
        model: Name of the model; `magvit models` lists them. `all` exports each that doesn't
            generate, one after the other, and goes on where one fails; the exit code is 1 then.
        weights: Path of a checkpoint (a pickle or safetensors, the index of its shards, or a
            folder with one of these), `hub`, `trained` (what ships with this package, for
            trajectory-small), `seeded` or `seeded:N`. A folder of VideoMAE or CLIP has their
            config.json too, which says the architecture.
        output: Directory of the bundle. An existing bundle of the same weights gains this
            precision or role. With `all`, the folder of the bundles, which have the models' names.
        roles: What to export, separated by commas: encode, decode, features; of a model that
            generates, context, subtokens, decode. By default all that the checkpoint has weights
            for, but the features of tokenizers only where they are named.
        variant: Which weights of the checkpoint; EMA where it has them.
        tokenizer: Of a model that generates: weights of the tokenizer that decodes, given like
            those of the model. Its raw weights are taken, as the reference does. If the model's
            checkpoint holds a tokenizer, that one is taken.
        config: JSON or YAML file with what differs from the model's architecture, for fine-tuned
            variants: the reference's ddconfig or transformer_config, or its whole configuration.
            Without one, a bundle of the first schema in the output directory keeps its own.
        precision: Precision of the graph. tf32 is the fp32 graph, where convs may round to TF32.
        weights_precision: int8 stores the matrices of a model that generates in 8 bits.
        residual: fp32 keeps the residual stream of a half-precision graph in float32.
        batch: Fixes the batch size; any by default.
        frames: Fixes the number of frames; any by default.
        height: Fixes the height in pixels; any by default.
        width: Fixes the width in pixels; any by default.
    """
    from magvit_export.catalog import find_model
    from magvit_export.families.family import ClipSizes

    options: dict[str, Any] = {
        "weights": weights,
        "roles": None if roles is None else _roles(roles),
        "variant": variant,
        "tokenizer": tokenizer,
        "precision": _graph_precision(precision, weights_precision),
        "residual": residual,
        "sizes": ClipSizes(batch, frames, height, width),
    }
    if model == EVERY_MODEL:
        if config is not None or weights.partition(":")[0] not in ("seeded", "hub"):
            raise InputError(
                "`magvit export all` takes every model as it was published",
                found=f"--weights {weights}" if config is None else f"--config {config}",
                expected="--weights seeded, seeded:N or hub, and no --config",
            )
        return _export_all(output, options)
    return _export_one(find_model(model), output, options, config)


def _graph_precision(precision: Precision, weights: Literal["int8"] | None) -> Precision:
    if weights is None:
        return precision
    if precision != "fp32":
        raise InputError(
            "weights of 8 bits are computed with in float32",
            found=f"--precision {precision}",
            mend="leave --precision out",
        )
    return weights


def _export_one(
    entry: CatalogEntry,
    output: Path,
    options: Mapping[str, Any],
    config: Path | None = None,
) -> Outcome:
    from magvit_export.exporting import ExportedRole, export_model, written_files
    from magvit_export.families.family import find_family, read_config
    from magvit_export.first_stage import first_stage_config

    family, precision = find_family(entry.family), options["precision"]
    written = written_files(family, options["roles"] or family.roles, precision)
    sources = [Path(options[name]) for name in ("weights", "tokenizer") if options[name]]
    check_outputs(*(output / name for name in written), inputs=(*sources, config))
    done: list[ExportedRole] = []
    configs: dict[str, Any] = {}
    if config is not None:
        configs["config"] = read_config(
            config,
            family.config,
            entry.config,
            section=family.section,
            training_fields=family.training_fields,
        )
        configs["tokenizer_config"] = first_stage_config(entry, config)
    bundle = export_model(entry, output, advance=done.append, **configs, **options)
    label = weights_label(bundle)
    facts = {
        "bundle": str(output),
        "model": entry.name,
        "precision": precision,
        "weights": label,
        "roles": {one.role: {"seconds": one.seconds, "bytes": one.size} for one in done},
        "files": {name: record.size for name, record in bundle.manifest.files.items()},
    }
    size = sum(record.size for record in bundle.manifest.files.values())
    lines = [f"{entry.name} ({precision}), {label} -> {output} ({size / 1e6:.0f} MB)"]
    lines += [f"  {one.role}: {one.seconds:.1f} s, {one.size / 1e6:.0f} MB" for one in done]
    return Outcome(facts, "\n".join(lines))


def _export_all(folder: Path, options: Mapping[str, Any]) -> Outcome:
    """A bundle a model; those that generate are left out, and presets where weights are a hub's."""
    from magvit_export.catalog import all_models

    # Of models that generate, each takes as much as all tokenizers together.
    entries = [entry for entry in all_models() if entry.config is not None and not entry.sampling]
    if options["weights"] == "hub":
        entries = [entry for entry in entries if entry.repo is not None]
    models: dict[str, dict[str, Any]] = {}
    lines: list[str] = []
    failed = 0
    with progress_bar("models", len(entries)) as advance:
        for entry in entries:
            begin = time.perf_counter()
            try:
                outcome = _export_one(entry, folder / entry.name, options)
            except MagvitError as error:
                failed += 1
                models[entry.name] = {"error": str(error)}
                lines.append(f"{entry.name}: FAILED: {error}")
            else:
                models[entry.name] = outcome.facts
                lines.append(outcome.text)
            models[entry.name]["seconds"] = time.perf_counter() - begin
            advance(1)
    size = sum(sum(facts.get("files", {}).values()) for facts in models.values())
    seconds = sum(facts["seconds"] for facts in models.values())
    lines.append(
        f"{len(entries) - failed} of {len(entries)} models -> {folder} "
        f"({size / 1e6:.0f} MB), {seconds:.0f} s"
    )
    facts = {"folder": str(folder), "precision": options["precision"], "models": models}
    return Outcome(facts, "\n".join(lines), failed == 0)


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
