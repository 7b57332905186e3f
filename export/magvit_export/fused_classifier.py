"""A bundle's graphs from clips to probabilities: each of its encoders with its classifier.

Their weights lie in the files of the graphs that they are made of, so they cost next to nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from math import prod
from pathlib import Path

import msgspec

from magvit_export.onnx.joining import join_graphs
from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.bundle.manifest import (
    GraphRecord,
    GraphWork,
    Manifest,
    Precision,
    Role,
    TensorSpec,
    TokenSpec,
)

ROLE: Role = "classify-clips"


def write_fused_graphs(
    staging: Path,
    folder: Path,
    encoders: Mapping[Precision, GraphRecord],
    classifier: GraphRecord,
    tokens: TokenSpec,
    drawing: DrawingRecord | None,
) -> dict[Precision, GraphRecord]:
    """Writes a graph for each encoder that makes the ids that a classifier takes.

    Args:
        staging: Where they are written. Graphs that lie there go before those in the bundle.
        folder: The bundle.
        encoders: By precision.
        classifier: The classifier, whose sizes are fixed.
        tokens: What part of a clip an id covers.
        drawing: How the clips were drawn that it was trained on, where it is known.

    Returns:
        Records of the graphs. An encoder that was exported for clips of another size has none.
    """
    made = {}
    for precision, encoder in encoders.items():
        clip = _clip_shape(encoder.inputs[0], classifier.inputs[0], tokens, drawing)
        if clip is None:
            continue
        for graph in (encoder, classifier):
            if not (staging / graph.file).exists():
                shutil.copyfile(folder / graph.file, staging / graph.file)
        record = _record(encoder, classifier, clip)
        join_graphs(
            staging / encoder.file,
            staging / classifier.file,
            staging / record.file,
            record,
            ids=encoder.output_of("ids").name,
        )
        made[precision] = record
    return made


def fused_file(encoder: GraphRecord) -> str:
    """Name of the graph that an encoder's is a part of."""
    return encoder.file.replace("encode", ROLE, 1)


def without_roles(manifest: Manifest, *roles: Role) -> Manifest:
    """A manifest without the graphs of some roles, and without what was proved of them."""
    dropped = [graph for role in roles for graph in manifest.graphs.get(role, {}).values()]
    kept = {role: graphs for role, graphs in manifest.graphs.items() if role not in roles}
    used = {name for graphs in kept.values() for g in graphs.values() for name in (g.file, *g.data)}
    canaries = [canary.file for role, canary in manifest.canaries.items() if role in roles]
    files = {*canaries, *(name for graph in dropped for name in (graph.file, *graph.data))} - used
    return msgspec.structs.replace(
        manifest,
        graphs=kept,
        files={name: file for name, file in manifest.files.items() if name not in files},
        stamps={
            name: stamp for name, stamp in manifest.stamps.items() if name.split()[0] not in roles
        },
        canaries={role: one for role, one in manifest.canaries.items() if role not in roles},
    )


def _clip_shape(
    frames: TensorSpec, ids: TensorSpec, tokens: TokenSpec, drawing: DrawingRecord | None
) -> tuple[int, ...] | None:
    """Shape of the clips that a classifier's ids are of; None where the encoder takes no such."""
    _, *grid = ids.shape
    _, *sizes, channels = frames.shape
    style = {} if drawing is None else drawing.style
    names = ("frames", "height", "width")[-len(sizes) :]
    strides = (tokens.temporal_stride, tokens.spatial_stride, tokens.spatial_stride)[-len(sizes) :]
    clip: list[int] = []
    assert isinstance(channels, int)
    for name, size, count, stride in zip(names, sizes, grid, strides, strict=True):
        assert isinstance(count, int)  # A classifier's sizes are fixed.
        # The shortest clip of so many tokens: the first of them covers one frame.
        usual = stride * (count - 1) + 1 if name == "frames" else stride * count
        drawn = style.get(name, usual)
        chosen = size if isinstance(size, int) else drawn
        if not isinstance(chosen, int) or -(-chosen // stride) != count:
            return None
        clip.append(chosen)
    return (*clip, channels)


def _record(encoder: GraphRecord, classifier: GraphRecord, clip: tuple[int, ...]) -> GraphRecord:
    (frames,), (ids,), (probabilities,) = encoder.inputs, classifier.inputs, classifier.outputs
    batch, grid = frames.shape[0], ids.shape[1:]

    def fixed(spec: TensorSpec) -> TensorSpec:
        channels = spec.shape[1:2] if spec.kind == "latents" else ()
        return msgspec.structs.replace(spec, shape=(batch, *channels, *grid))

    return GraphRecord(
        file=fused_file(encoder),
        data=tuple(dict.fromkeys((*encoder.data, *classifier.data))),
        inputs=(msgspec.structs.replace(frames, shape=(batch, *clip)),),
        outputs=(
            msgspec.structs.replace(probabilities, shape=(batch, *probabilities.shape[1:])),
            *map(fixed, encoder.outputs),
        ),
        operators=encoder.operators,
        preprocessing=encoder.preprocessing,
        residual=encoder.residual,
        work=_work(encoder, classifier, clip),
    )


def _work(encoder: GraphRecord, classifier: GraphRecord, clip: tuple[int, ...]) -> GraphWork | None:
    """The work of both; an encoder's is in proportion to the clip."""
    ours, added, name = encoder.work, classifier.work, encoder.inputs[0].name
    if ours is None or added is None:
        return None
    share = prod(clip) / prod(ours.shapes[name][1:])
    return GraphWork(
        shapes={name: (1, *clip)},
        flop=round(ours.flop * share) + added.flop,
        weight_bytes=ours.weight_bytes + added.weight_bytes,
        map_bytes=round(ours.map_bytes * share) + added.map_bytes,
    )
