"""Writes a trained classifier into the bundle whose tokens it was trained on.

The bundle gains two roles: `classify` takes ids, and `classify-clips` is each of its encoders with
this classifier in one graph.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from types import MappingProxyType

import msgspec
import torch
from torch import nn

from magvit_export.bundle_writer import file_records, publish, staging_directory
from magvit_export.fused_classifier import ROLE, fused_file, without_roles, write_fused_graphs
from magvit_export.onnx.export import export_onnx
from magvit_export.onnx.work import count_work
from magvit_export.training.classifier import ExportedClassifier
from magvit_export.training.options import EmbeddingKind
from magvit_runtime.bundle.manifest import (
    GraphRecord,
    GraphWork,
    Head,
    Manifest,
    Precision,
    Role,
    TensorSpec,
)
from magvit_runtime.bundle.reading import MANIFEST_NAME, Bundle, graph_sha256
from magvit_runtime.bundle.schema_one import SchemaOne
from magvit_runtime.classifier import CLASSIFIER
from magvit_runtime.errors import InputError
from magvit_runtime.quantizers import vocabulary_size
from magvit_runtime.results.token_files import TokenFileInfo

CLASSIFIER_FILE = "classify.fp32.onnx"
# A classifier is the small part of what runs.
MOST_PARAMETERS = 3_000_000
MOST_OF_ENCODER = 0.02


def export_classifier(
    bundle: Bundle,
    model: nn.Module,
    classes: Sequence[str],
    info: TokenFileInfo,
    embedding: EmbeddingKind,
    training: Mapping[str, str | int | float],
) -> None:
    """Exports a classifier into the bundle, in place of any before it.

    Args:
        bundle: The bundle whose tokens it takes.
        model: The classifier, ids [N, t, h, w] or [N, h, w] to logits [N, classes]. See
            `ExportedClassifier` for batch norms and ensembles.
        classes: Name of each class, in the order of its logits.
        info: What is known of the tokens that it was trained on.
        embedding: How ids enter it.
        training: Facts of the training, for the manifest.

    Raises:
        InputError: It has more than `MOST_PARAMETERS`, or takes more than `MOST_OF_ENCODER` of the
            encoder's operations; or the bundle holds another model by now.
    """
    vocabulary = vocabulary_size(bundle.tokens.quantizer)
    ids = TensorSpec("ids", "int32", ("batch", *info.grid), "ids", "token ids", 0, vocabulary - 1)
    shape = ("batch", len(classes))
    probabilities = TensorSpec(
        "probabilities", "float32", shape, "probabilities", "of each class", 0, 1
    )
    module = ExportedClassifier(model).eval().requires_grad_(False)
    work = count_work(copy.deepcopy(module), [torch.zeros(1, *info.grid, dtype=torch.int32)], [ids])
    check_parameters(module)
    _check_work(bundle, work, info.grid)
    encoders = bundle.graphs("encode")
    with staging_directory(bundle.path) as staging:
        files = export_onnx(
            module,
            (torch.zeros(2, *info.grid, dtype=torch.int32),),
            staging / CLASSIFIER_FILE,
            input_names=[ids.name],
            output_names=[probabilities.name],
            dynamic=[{0: "batch"}],
        )
        graph = GraphRecord(
            file=files[0].name,
            data=tuple(path.name for path in files[1:]),
            inputs=(ids,),
            outputs=(probabilities,),
            work=work,
        )
        fused = write_fused_graphs(
            staging, bundle.path, encoders, graph, bundle.tokens, info.drawing
        )
        head = Head(
            graph="classify",
            labels=tuple(classes),
            embedding=embedding,
            training=dict(training),
            trained_on={
                precision: graph_sha256(bundle, encoder) for precision, encoder in encoders.items()
            },
            drawing=info.drawing,
        )
        publish_classifier(bundle, staging, head, graph, fused)


def publish_classifier(
    bundle: Bundle,
    staging: Path,
    head: Head,
    graph: GraphRecord,
    fused: Mapping[Precision, GraphRecord] = MappingProxyType({}),
) -> None:
    """Moves a classifier into its bundle. That before it goes, with what was proved of it.

    Args:
        bundle: The bundle.
        staging: The folder of its new graphs and weights.
        head: The manifest's record of the classifier.
        graph: The role `classify`.
        fused: The role `classify-clips`; a classifier of other things than ids has none.

    Raises:
        InputError: The bundle holds another model or other encoders by now.
    """
    names = [graph.file, *graph.data, *(one.file for one in fused.values())]
    written = [staging / name for name in dict.fromkeys(names)]
    records = file_records(written)

    def updated(manifest: Manifest | SchemaOne | None) -> Manifest:
        then = bundle.manifest
        if not isinstance(manifest, Manifest) or manifest.components != then.components:
            raise InputError(f"{bundle.path} holds another model now", mend="train again")
        if fused and manifest.graphs["encode"] != then.graphs["encode"]:
            raise InputError(f"{bundle.path} has other encoders now", mend="train again")
        kept = without_roles(manifest, "classify", ROLE)
        graphs: dict[Role, dict[Precision, GraphRecord]] = {"classify": {"fp32": graph}}
        if fused:
            graphs[ROLE] = dict(fused)
        return msgspec.structs.replace(
            kept,
            graphs={**kept.graphs, **graphs},
            files={**kept.files, **records},
            heads={**kept.heads, CLASSIFIER: head},
        )

    publish(bundle.path, written, updated)


def written_files(bundle: Bundle) -> tuple[str, ...]:
    """Names of the files that `export_classifier` writes into a bundle."""
    fused = (fused_file(encoder) for encoder in bundle.graphs("encode").values())
    own = Path(CLASSIFIER_FILE)
    return (MANIFEST_NAME, own.name, own.with_suffix(".data").name, *dict.fromkeys(fused))


def check_parameters(module: nn.Module) -> None:
    """Refuses a classifier of more than `MOST_PARAMETERS`.

    Raises:
        InputError: It has more.
    """
    parameters = sum(parameter.numel() for parameter in module.parameters())
    if parameters > MOST_PARAMETERS:
        raise InputError(
            "the classifier has too many parameters",
            found=f"{parameters:,}",
            expected=f"at most {MOST_PARAMETERS:,}",
            mend="use a smaller --width, another --embedding, or features of --pool mean",
        )


def _check_work(bundle: Bundle, work: GraphWork, grid: tuple[int, ...]) -> None:
    encoder = next((one.work for one in bundle.graphs("encode").values()), None)
    if encoder is None:  # Nobody counted, or the bundle has none.
        return
    tokens = bundle.tokens
    (counted,) = encoder.shapes.values()
    strides = (tokens.temporal_stride, tokens.spatial_stride, tokens.spatial_stride)[-len(grid) :]
    places = prod(-(-size // stride) for size, stride in zip(counted[1:], strides, strict=False))
    share = work.flop / (encoder.flop * prod(grid) / places)
    if share > MOST_OF_ENCODER:
        raise InputError(
            "the classifier computes too much beside the encoder",
            found=f"{share:.1%} of the encoder's operations",
            expected=f"at most {MOST_OF_ENCODER:.0%}",
            mend="use a smaller classifier",
        )
