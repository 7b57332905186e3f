"""Finds the reference that `magvit verify --against` names."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import msgspec

from magvit_export.checkpoints.packaged import is_packaged
from magvit_export.verification.reference_cache import ReferenceType
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import Bundle, open_bundle
from magvit_runtime.bundle.stamps import graph_subject
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.errors import InputError
from magvit_runtime.verification.references import Reference, graph_reference
from magvit_runtime.verification.stored_reference import stored_reference


def find_reference(
    bundle: Bundle,
    against: str | None,
    weights: str | None,
    role: Role = "encode",
    dtype: ReferenceType | None = None,
) -> Reference:
    """The reference of a name.

    Args:
        bundle: The bundle that is compared with it.
        against: "pytorch", "fp32", a bundle's directory, or an npz file with latents. None is
            PyTorch if it is installed and the weights are available, otherwise "fp32".
        weights: The weights for PyTorch; None generates those of a seeded bundle.
        role: What is compared. Files of latents are references of encoders alone.
        dtype: What PyTorch computes in; None is "auto".

    Raises:
        InputError: There is none of this name, or it doesn't fit the bundle.
        BundleError: There is no graph to compare with, or a file was changed.
    """
    is_trained = role in ("classify", "classify-clips")
    if is_trained and against == "pytorch":
        raise InputError(
            "PyTorch is no reference of classifiers: their weights are in the bundle alone",
            found="--against pytorch",
            mend="leave --against out: they are compared with their own graphs in ONNX Runtime",
        )
    if against is None and is_trained and weights is None and dtype is None:
        against = "fp32"
    if against is None:
        against = "pytorch" if weights is not None or _weights_are_here(bundle) else "fp32"
    if against == "pytorch":
        from magvit_export.verification.cached_pytorch import cached_reference

        return cached_reference(bundle, role, weights, dtype or "auto")
    for option, value in (("weights", weights), ("reference", dtype)):
        if value is not None:
            raise InputError(
                f"only PyTorch takes --{option}",
                found=f"--against {against} --{option} {value}",
                mend=f"leave --{option} out, or use --against pytorch",
            )
    if against == "fp32":
        bundle.graph(role, "fp32")  # Names what to export where there is none.
        return graph_reference(
            bundle,
            "its own fp32 graph in ONNX Runtime",
            role=role,
            subject=graph_subject("onnxruntime", "fp32"),
        )
    path = Path(against)
    if path.suffix.lower() == ".npz" and path.is_file():
        if role != "encode":
            raise InputError(
                "a file of latents is a reference of encoders only",
                found=f"--role {role}",
                mend="use another --against",
            )
        return stored_reference(bundle, path)
    if path.is_dir():
        return _other_bundle(bundle, path, role)
    raise InputError(
        f"there is no reference {against!r}",
        expected="pytorch, fp32, a bundle's directory, or an .npz file of latents",
        mend="golden values are such files: --against tests/golden/video_small.npz"
        if against == "golden"
        else None,
    )


def _other_bundle(bundle: Bundle, path: Path, role: Role) -> Reference:
    other = open_bundle(path)
    if other.tokens != bundle.tokens:
        raise InputError(
            f"the tokens of {path} are others than those of {bundle.path}",
            found=msgspec.to_builtins(other.tokens),
            expected=msgspec.to_builtins(bundle.tokens),
        )
    precision, _ = other.graph(role)
    name = f"{precision} graph of {other.manifest.model}, {weights_label(other)}"
    return graph_reference(other, f"{name}, in ONNX Runtime", role=role)


def _weights_are_here(bundle: Bundle) -> bool:
    """Whether PyTorch is installed, and a bundle's weights are generated or ship with us."""
    if find_spec("torch") is None:
        return False
    weights = bundle.manifest.component.weights
    return bundle.is_seeded or is_packaged(bundle.manifest.model, weights.sha256)
