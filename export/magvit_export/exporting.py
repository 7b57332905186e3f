"""Checkpoint to bundle: the whole of `magvit export`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import torch

from magvit_export.bundle_writer import (
    file_records,
    publish,
    software_versions,
    staging_directory,
    timestamp,
)
from magvit_export.catalog import CatalogEntry
from magvit_export.checkpoints.reading import Variant
from magvit_export.checkpoints.weights import Weights, find_weights
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.families.magvit.encoder import Encoder
from magvit_export.families.magvit.precision import set_precision
from magvit_export.families.magvit.tokenizer import ExportedEncoder, empty_tokenizer
from magvit_export.onnx.export import export_onnx
from magvit_export.onnx.functions import OPSET
from magvit_runtime.bundle import MANIFEST_NAME, Bundle, open_bundle
from magvit_runtime.errors import InputError
from magvit_runtime.manifest import (
    SCHEMA_VERSION,
    GraphRecord,
    Manifest,
    Precision,
    Preprocessing,
    TensorSpec,
    TokenSpec,
)

COMPUTE_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
# TF32 is fp32's graph: the hardware's leave to round, not another model.
GRAPH_PRECISION: dict[Precision, Precision] = {"tf32": "fp32"}


@dataclass(frozen=True)
class ClipSizes:
    """Sizes that the exported graph takes; None leaves a size to the caller.

    Attributes:
        batch: Clips at once.
        frames: Frames a clip; images have none.
        height, width: Pixels.
    """

    batch: int | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "frames", "height", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"`{name}` must be positive", found=value)


def export_tokenizer(
    entry: CatalogEntry,
    output: Path,
    *,
    weights: str,
    variant: Variant | None = None,
    config: TokenizerConfig | None = None,
    precision: Precision = "fp32",
    residual: Literal["fp32"] | None = None,
    sizes: ClipSizes | None = None,
) -> Bundle:
    """Exports a tokenizer's encoder into a bundle.

    An existing bundle of the same model and weights gains the precision; its other files stay.

    Args:
        entry: The model.
        output: The bundle's directory.
        weights: Path of a checkpoint, "hub", "seeded" or "seeded:N".
        variant: "ema" or "raw" weights; None takes EMA weights where there are any.
        config: Architecture, where it isn't the model's own.
        precision: Precision of the graph. "tf32" is the fp32 graph, on hardware that may round
            its conv inputs to TF32.
        residual: "fp32" keeps the residual stream of a half-precision graph in float32.
        sizes: Sizes to fix; None leaves all to the caller.

    Raises:
        InputError: The model can't be exported, or `output` is something else.
        CheckpointError: The checkpoint isn't one of this model.
    """
    config = config or entry.config
    if config is None:
        raise InputError(
            f"models of the family {entry.family!r} can't be exported yet",
            found=entry.name,
            mend="`magvit models` lists those that can",
        )
    model = empty_tokenizer(config)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = find_weights(weights, entry, shapes, variant)
    existing = _existing_bundle(output, entry.name, config, found)
    encoder = load_encoder(model.encoder, found)
    compute = COMPUTE_DTYPES[precision]
    set_precision(encoder, compute, torch.float32 if residual else compute)
    with staging_directory(output) as staging:
        graph_path = staging / f"encoder.{GRAPH_PRECISION.get(precision, precision)}.onnx"
        files, graph = _export_encoder(encoder, config, graph_path, sizes or ClipSizes())
        graph = msgspec.structs.replace(graph, residual=residual)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            model=entry.name,
            task="video-tokenization" if config.dims == 3 else "image-tokenization",
            config=_config_facts(config),
            weights=found.record,
            preprocessing=Preprocessing(
                layout="NTHWC" if config.dims == 3 else "NHWC",
                color="RGB",
                formula="x / 127.5 - 1",
            ),
            tokens=TokenSpec(
                bits=config.z_channels,
                bit_order="lsb-first",
                temporal_stride=config.temporal_stride,
                spatial_stride=config.spatial_stride,
            ),
            encoder={**_kept_encoders(existing, graph), precision: graph},
            files={**(existing.files if existing else {}), **file_records(files)},
            made_by=software_versions(),
            created=timestamp(),
            classifier=existing.classifier if existing else None,
            parity=existing.parity if existing else {},
        )
        publish(output, files, manifest)
    return open_bundle(output)


def _kept_encoders(existing: Manifest | None, new: GraphRecord) -> dict[Precision, GraphRecord]:
    """The encoders that a bundle has already; one that shares the new one's file becomes it."""
    encoders = existing.encoder if existing else {}
    return {name: new if old.file == new.file else old for name, old in encoders.items()}


def _config_facts(config: TokenizerConfig) -> dict[str, int | bool | list[int]]:
    """The config as it reads in the manifest."""
    facts: dict[str, int | bool | list[int]] = msgspec.json.decode(msgspec.json.encode(config))
    return facts


def _existing_bundle(
    output: Path, model: str, config: TokenizerConfig, weights: Weights
) -> Manifest | None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    if not (output / MANIFEST_NAME).is_file():
        raise InputError(f"{output} exists and is no bundle", mend="choose another -o")
    manifest = open_bundle(output).manifest
    same = (
        manifest.model == model
        and manifest.config == _config_facts(config)
        and manifest.weights == weights.record
    )
    if not same:
        raise InputError(
            f"{output} holds a bundle of another model or other weights",
            found=f"{manifest.model}, {manifest.weights.name}",
            expected=f"{model}, {weights.record.name}",
            mend="choose another -o, or remove it",
        )
    return manifest


def load_encoder(encoder: Encoder, weights: Weights) -> Encoder:
    """Gives an empty encoder its weights, without gradients."""
    prefix = "encoder."
    state = {
        key.removeprefix(prefix): value
        for key, value in weights.state.items()
        if key.startswith(prefix)
    }
    encoder.load_state_dict(state, assign=True)
    return encoder.requires_grad_(False)


def _export_encoder(
    encoder: Encoder, config: TokenizerConfig, path: Path, sizes: ClipSizes
) -> tuple[tuple[Path, ...], GraphRecord]:
    chosen = {"batch": sizes.batch, "frames": sizes.frames}
    chosen |= {"height": sizes.height, "width": sizes.width}
    if config.dims == 2:
        del chosen["frames"]
    # Traced sizes only stand in for "any size"; they differ so that none is taken for another.
    traced = {"batch": 2, "frames": 5, "height": 32, "width": 48}
    example = torch.zeros(
        *(chosen[name] or traced[name] for name in chosen), config.in_channels, dtype=torch.uint8
    )
    files = export_onnx(
        ExportedEncoder(encoder).eval(),
        example,
        path,
        input_name="frames",
        output_names=["ids", "latents"],
        dynamic={axis: name for axis, name in enumerate(chosen) if chosen[name] is None},
        # Conv takes bfloat16 from opset 22 on; the others stay where more runtimes read them.
        opset=22 if torch.bfloat16 in {p.dtype for p in encoder.parameters()} else OPSET,
    )
    return files, _graph_record(files, config, chosen)


def _graph_record(
    files: tuple[Path, ...], config: TokenizerConfig, chosen: Mapping[str, int | None]
) -> GraphRecord:
    strides = {"frames": config.temporal_stride}
    strides |= dict.fromkeys(("height", "width"), config.spatial_stride)
    grid = tuple(
        -(-size // strides[name]) if size else f"ceil({name}/{strides[name]})"
        for name, size in chosen.items()
        if name != "batch"
    )
    batch = chosen["batch"] or "batch"
    frames_shape = tuple(size or name for name, size in chosen.items())
    return GraphRecord(
        file=files[0].name,
        data=tuple(path.name for path in files[1:]),
        inputs=(
            TensorSpec(
                "frames", "uint8", (*frames_shape, config.in_channels), "RGB frames", 0, 255
            ),
        ),
        outputs=(
            TensorSpec(
                "ids",
                "int32",
                (batch, *grid),
                "token ids",
                0,
                2**config.z_channels - 1,
            ),
            TensorSpec(
                "latents",
                "float32",
                (batch, config.z_channels, *grid),
                "latents before quantization, without unit",
            ),
        ),
    )
