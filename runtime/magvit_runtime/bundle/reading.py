"""A bundle: a directory with a manifest, graphs and weights, checked before anything runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from magvit_runtime.bundle.content_store import MANIFEST_NAME as MANIFEST_NAME
from magvit_runtime.bundle.external_data import check_external_data
from magvit_runtime.bundle.files import check_file, decode_json, read_json
from magvit_runtime.bundle.manifest import EXPORT_AGAIN as EXPORT_AGAIN
from magvit_runtime.bundle.manifest import (
    SCHEMA_VERSION,
    GraphRecord,
    Manifest,
    Precision,
    Role,
    TokenSpec,
)
from magvit_runtime.bundle.schema_one import SchemaOne
from magvit_runtime.errors import BundleError
from magvit_runtime.files.digests import file_sha256
from magvit_runtime.hub.fetching import local_folder


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Its manifest has been validated; each file is checked when it is asked for.

    Attributes:
        path: The directory.
        manifest: The content of bundle.json.
    """

    path: Path
    manifest: Manifest

    @property
    def is_seeded(self) -> bool:
        """Whether any of the weights were generated rather than trained."""
        components = self.manifest.components.values()
        return any(component.weights.source == "seeded" for component in components)

    @property
    def tokens(self) -> TokenSpec:
        """What the bundle's ids mean.

        Raises:
            BundleError: Its models make no ids.
        """
        if self.manifest.tokens is None:
            raise BundleError(
                f"{self.path} has no tokens", found=", ".join(self.manifest.graphs) or "no graph"
            )
        return self.manifest.tokens

    def graphs(self, role: Role) -> dict[Precision, GraphRecord]:
        """The graphs of a role by precision; none if the bundle doesn't have the role."""
        return self.manifest.graphs.get(role, {})

    def graph(
        self, role: Role, precision: Precision | None = None
    ) -> tuple[Precision, GraphRecord]:
        """The graph of a role and precision; None takes the most precise one.

        Raises:
            BundleError: The bundle has no such graph.
        """
        graphs = self.graphs(role)
        order: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "bf16", "int8")
        wanted = (precision,) if precision else order
        for name in wanted:
            if name in graphs:
                return name, graphs[name]
        if not graphs and self.manifest.tokens is None and role in ("encode", "decode"):
            raise BundleError(
                f"{self.path} is no tokenizer's: {self.manifest.model} makes no tokens",
                found=", ".join(self.manifest.graphs) or "no graph",
                expected=role,
                mend="use what the bundle has: `FeatureExtractor` and `magvit features`, or "
                "another command's --role features"
                if "features" in self.manifest.graphs
                else "use a bundle of a tokenizer",
            )
        raise BundleError(
            f"{self.path} has no {role} graph" + (" of this precision" if precision else ""),
            found=", ".join(graphs or self.manifest.graphs) or "none",
            expected=precision or role,
            mend=self._graph_command(role, precision),
        )

    def _graph_command(self, role: Role, precision: Precision | None) -> str:
        """What makes a graph that the bundle lacks."""
        if self.manifest.generation is not None and role == "encode":
            return (
                "magvit generate and magvit detokenize are for models that make tokens of classes"
            )
        chosen = precision or "fp32"
        of_precision = f"magvit export {self.manifest.model} --precision {chosen}"
        if role == "classify-clips" and self.graphs(role):
            return of_precision
        if role in ("classify", "classify-clips"):
            return train_command(self)
        roles = "" if self.graphs(role) else f"--roles {role} "
        return f"magvit export {self.manifest.model} {roles}--precision {chosen}"

    def verified_graph(self, graph: GraphRecord) -> Path:
        """Path of a graph whose file and weights were just checked against their digests.

        Raises:
            BundleError: A file is missing, lies outside the bundle, or was changed; or the graph
                takes weights from a file that has no digest.
        """
        for name in (graph.file, *graph.data):
            self.verified_file(name)
        path = self.path / graph.file
        check_external_data(path, graph)
        return path

    def verified_file(self, name: str) -> Path:
        """Path of one of the bundle's files, just checked against its recorded size and digest.

        Raises:
            BundleError: The file is missing, lies outside the bundle, or was changed.
        """
        record = self.manifest.files[name]
        path = self.path / name
        check_file(path, self.path, mend=EXPORT_AGAIN)
        size = path.stat().st_size
        if size != record.size:
            raise BundleError(
                f"{path} has changed since export",
                found=f"{size} bytes",
                expected=f"{record.size} bytes",
                mend=EXPORT_AGAIN,
            )
        digest = file_sha256(path)
        if digest != record.sha256:
            raise BundleError(
                f"{path} has changed since export",
                found=f"sha256 {digest}",
                expected=record.sha256,
                mend=EXPORT_AGAIN,
            )
        return path


def train_command(bundle: Bundle) -> str:
    """The command that gives a bundle a classifier."""
    return f"magvit train classifier {bundle.path} TOKENS.parquet"


def graph_sha256(bundle: Bundle, graph: GraphRecord) -> str:
    """Digest of a graph with its weights, made from the digests in the manifest."""
    files = bundle.manifest.files
    parts = [files[name].sha256 for name in (graph.file, *graph.data)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def open_bundle(path: str | Path) -> Bundle:
    """Opens a bundle directory and validates its manifest.

    Args:
        path: The directory; or an address on the Hugging Face hub, as hf://OWNER/NAME@REVISION
            (`magvit_runtime.hub.addresses`), which is fetched into the hub's cache.

    Raises:
        BundleError: There is no bundle, its manifest is malformed or of another schema version,
            or a file name in it is unsafe.
        HubError: It can't be fetched from the hub.
        InputError: The address can't be read.
        MissingPackageError: An address was given, and huggingface_hub isn't installed.
    """
    directory = local_folder(path)
    manifest_path, text, version = _read_manifest(directory)
    if version != SCHEMA_VERSION:
        old = open_schema_one(directory)
        raise BundleError(
            f"{manifest_path} has another schema version",
            found=version,
            expected=SCHEMA_VERSION,
            mend=f"install the magvit-runtime that wrote it, or {EXPORT_AGAIN}"
            if old is None
            else old.export_command(directory),
        )
    manifest = decode_json(manifest_path, text, Manifest, mend=EXPORT_AGAIN)
    _check_names(manifest_path, manifest)
    return Bundle(directory, manifest)


def open_schema_one(directory: Path) -> SchemaOne | None:
    """The record of a bundle of the first schema; None if its schema is another.

    Raises:
        BundleError: There is no bundle, or its manifest is malformed.
    """
    path, text, version = _read_manifest(directory)
    return decode_json(path, text, SchemaOne, mend=EXPORT_AGAIN) if version == 1 else None


class _Versioned(msgspec.Struct):
    schema_version: int


def _read_manifest(directory: Path) -> tuple[Path, bytes, int]:
    """Path and text of bundle.json, and its schema version."""
    path = directory / MANIFEST_NAME
    if not os.path.isfile(path):  # noqa: PTH113 - as in `check_file`
        raise BundleError(
            f"{directory} is no bundle: it has no {MANIFEST_NAME}",
            mend=f"make one with `magvit export MODEL -o {directory}`",
        )
    check_file(path, directory)
    text = read_json(path)
    return path, text, decode_json(path, text, _Versioned, mend=EXPORT_AGAIN).schema_version


def _check_names(path: Path, manifest: Manifest) -> None:
    for name in manifest.files:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or not name:
            raise BundleError(f"{path} names a file outside the bundle", found=repr(name))
    for graph in _graphs(manifest):
        for name in (graph.file, *graph.data):
            if name not in manifest.files:
                raise BundleError(f"{path} names a graph file without its digest", found=repr(name))
    for canary in manifest.canaries.values():
        if canary.file not in manifest.files:
            raise BundleError(f"{path} names a canary without its digest", found=repr(canary.file))


def _graphs(manifest: Manifest) -> Iterable[GraphRecord]:
    for graphs in manifest.graphs.values():
        yield from graphs.values()
