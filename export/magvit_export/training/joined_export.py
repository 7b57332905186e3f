"""Writes a classifier of features, or of several sources, into a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from magvit_export.bundle_writer import staging_directory
from magvit_export.onnx.export import export_onnx
from magvit_export.training.classifier_export import (
    CLASSIFIER_FILE,
    check_parameters,
    publish_classifier,
)
from magvit_export.training.inputs import Info
from magvit_export.training.joined_classifier import JoinedClassifier
from magvit_export.training.options import EmbeddingKind
from magvit_runtime.bundle.manifest import GraphRecord, Head, Role, TensorSpec
from magvit_runtime.bundle.reading import Bundle, graph_sha256
from magvit_runtime.quantizers import vocabulary_size
from magvit_runtime.results.token_files import TokenFileInfo


class _Exported(nn.Module):
    """The module of the ONNX graph: one tensor a source in, probabilities out."""

    def __init__(self, classifier: JoinedClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.classifier(*inputs)
        return logits.softmax(dim=1)


def export_joined(
    bundle: Bundle,
    model: JoinedClassifier,
    classes: Sequence[str],
    infos: Sequence[Info],
    embedding: EmbeddingKind,
    training: Mapping[str, str | int | float],
) -> None:
    """Exports a classifier as the role `classify` of a bundle, in place of any before it.

    Its graph has an input a source, in their order: `ids` of tokens, `features`; a second one of a
    kind is `features_2`.

    Args:
        bundle: That of the model which made one of the sources.
        model: The classifier.
        classes: Name of each class, in the order of its logits.
        infos: What is known of each source.
        embedding: How ids enter it.
        training: Facts of the training, for the manifest.

    Raises:
        InputError: It has too many parameters, or the bundle holds another model by now.
    """
    inputs = _inputs(infos)
    has_ids = any(isinstance(info, TokenFileInfo) for info in infos)
    role: Role = "encode" if bundle.manifest.tokens is not None and has_ids else "features"
    head = Head(
        graph="classify",
        labels=tuple(classes),
        embedding=embedding if has_ids else None,
        training=dict(training),
        trained_on={
            precision: graph_sha256(bundle, graph)
            for precision, graph in bundle.manifest.graphs.get(role, {}).items()
        },
        drawing=next((info.drawing for info in infos if info.drawing), None),
    )
    probabilities = TensorSpec(
        "probabilities",
        "float32",
        ("batch", len(classes)),
        "probabilities",
        "of each class",
        0,
        1,
    )
    module = _Exported(model).eval().requires_grad_(False)
    check_parameters(module)
    with staging_directory(bundle.path) as staging:
        files = export_onnx(
            module,
            tuple(_example(spec) for spec in inputs),
            staging / CLASSIFIER_FILE,
            input_names=[spec.name for spec in inputs],
            output_names=[probabilities.name],
            dynamic=[{0: "batch"} for _ in inputs],
        )
        graph = GraphRecord(
            file=files[0].name,
            data=tuple(path.name for path in files[1:]),
            inputs=inputs,
            outputs=(probabilities,),
        )
        publish_classifier(bundle, staging, head, graph)


def _inputs(infos: Sequence[Info]) -> tuple[TensorSpec, ...]:
    specs: list[TensorSpec] = []
    for info in infos:
        kind = "ids" if isinstance(info, TokenFileInfo) else "features"
        before = sum(spec.kind == kind for spec in specs)
        name = f"{kind}_{before + 1}" if before else kind
        meaning = f"of {info.model}, {info.weights}"
        if isinstance(info, TokenFileInfo):
            last = vocabulary_size(info.quantizer) - 1
            shape: tuple[int | str, ...] = ("batch", *info.grid)
            specs.append(TensorSpec(name, "int32", shape, "ids", meaning, 0, last))
        else:
            specs.append(TensorSpec(name, "float32", ("batch", *info.shape), "features", meaning))
    return tuple(specs)


def _example(spec: TensorSpec) -> Tensor:
    shape: list[Any] = [2, *spec.shape[1:]]
    return torch.zeros(*shape, dtype=getattr(torch, spec.dtype))
