"""Finds the reference that `magvit verify --against` names, for a bundle that generates."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from magvit_export.verification.pytorch_reference import component_model
from magvit_export.verification.reference_cache import ReferenceType
from magvit_runtime.bundle.reading import Bundle, open_bundle
from magvit_runtime.bundle.stamps import graph_subject
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.errors import InputError
from magvit_runtime.generator import Generator
from magvit_runtime.types import Array
from magvit_runtime.verification.generation import ROLES, LogitReference


def find_logit_reference(
    bundle: Bundle,
    against: str | None,
    weights: str | None,
    computed_in: ReferenceType | None = None,
) -> LogitReference:
    """The reference of a name.

    Args:
        bundle: The bundle that is compared with it.
        against: "pytorch", "fp32" or a bundle's directory. None is PyTorch if the weights are
            available, otherwise "fp32".
        weights: The weights for PyTorch; None generates those of a seeded bundle.
        computed_in: What PyTorch computes in: "float32", or else float64.

    Raises:
        InputError: There is none of this name, or it doesn't fit the bundle.
        BundleError: There is no graph to compare with, or a file was changed.
    """
    if against is None:
        is_seeded = bundle.manifest.component.weights.source == "seeded"
        at_hand = weights is not None or (is_seeded and find_spec("torch") is not None)
        against = "pytorch" if at_hand else "fp32"
    if against == "pytorch":
        return _pytorch(bundle, weights, "float32" if computed_in == "float32" else "float64")
    if computed_in is not None:
        raise InputError(
            "only PyTorch's type can be chosen",
            found=f"--against {against} --reference {computed_in}",
            mend="leave --reference out",
        )
    if weights is not None:
        raise InputError(
            "only PyTorch takes weights",
            found=f"--against {against} --weights {weights}",
            mend="leave --weights out, or use --against pytorch",
        )
    if against == "fp32":
        bundle.graph("context", "fp32")  # Names what to export where there is none.
        subject = graph_subject("onnxruntime", "fp32")
        return _graphs(bundle, "its own fp32 graphs in ONNX Runtime", subject)
    if Path(against).is_dir():
        other = open_bundle(Path(against))
        if other.manifest.generation != bundle.manifest.generation or other.tokens != bundle.tokens:
            raise InputError(f"{against} doesn't generate what {bundle.path} does")
        name = f"graphs of {other.manifest.model}, {weights_label(other)}, in ONNX Runtime"
        return _graphs(other, name, None)
    raise InputError(
        f"there is no reference {against!r} of a model that generates",
        expected="pytorch, fp32, or a bundle's directory",
    )


def _pytorch(bundle: Bundle, weights: str | None, dtype: str) -> LogitReference:
    """The model with the bundle's own weights; it knows no cache."""
    model: Any = component_model(bundle, ROLES, weights).module.to(getattr(torch, dtype))

    def run(classes: Array, ids: Array) -> tuple[Array, Array]:
        parts = []
        with torch.inference_mode():
            for i in range(len(ids)):
                flat = torch.from_numpy(ids[i].reshape(1, -1)).long()
                parts.append(model.logits(torch.from_numpy(classes[i : i + 1]).long(), flat))
        pre, post = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        return pre, post

    name = f"PyTorch {dtype}, {weights_label(bundle)}"
    return LogitReference(name, run, {"torch": str(torch.__version__)})


def _graphs(bundle: Bundle, name: str, subject: str | None) -> LogitReference:
    """A bundle's most precise graphs in ONNX Runtime."""
    precision, _ = bundle.graph("context")
    generator = Generator.open(
        bundle.path, backend="onnxruntime", precision=precision, batch_size=1
    )
    ours = generator.capabilities
    return LogitReference(name, generator.logits, {ours.backend: ours.version}, subject)
