"""Whose weights a bundle holds, and whether they may be given away."""

from __future__ import annotations

import msgspec

from magvit_export.catalog import CatalogEntry, all_models
from magvit_runtime.bundle.manifest import Component
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.errors import InputError

REDISTRIBUTE = "--redistribute-weights"


def publisher(component: Component) -> CatalogEntry | None:
    """The catalog's entry whose published weights a model's are, or may be; None if they can't be.

    Weights from the hub are known by their repository. A file of the architecture that somebody
    published may be theirs under any name, or made from theirs, so it is taken for theirs.
    """
    weights = component.weights
    published = [entry for entry in all_models() if entry.repo is not None]
    if weights.source == "hub":
        named = (one for one in published if weights.name in (one.repo, f"{one.repo}/{one.file}"))
        # A repository of a catalog that isn't installed here.
        repository = "/".join(weights.name.split("/")[:2])
        unknown = CatalogEntry(repository, component.family, "", repo=repository, licence="unknown")
        return next(named, unknown)
    if weights.source == "file":
        for entry in published:
            if entry.family == component.family and _is_of(component, entry):
                return entry
    return None


def check_licences(bundle: Bundle) -> None:
    """Refuses a bundle with weights that others published, or that may be theirs.

    Raises:
        InputError: It holds such weights.
    """
    for component in bundle.manifest.components.values():
        entry = publisher(component)
        if entry is None:
            continue
        weights = component.weights
        of_hub = weights.source == "hub"
        raise InputError(
            f"{bundle.path} holds weights that aren't yours to give away"
            if of_hub
            else f"{bundle.path} may hold weights that aren't yours to give away",
            found=f"{weights.name}, "
            + ("" if of_hub else f"of the architecture that {entry.repo} publishes; ")
            + f"licence: {entry.licence}",
            mend=f"keep the bundle in a store of your own; or, if the weights are yours or their "
            f"owner allows it, pass {REDISTRIBUTE} and --licence",
        )


def _is_of(component: Component, entry: CatalogEntry) -> bool:
    """Whether a model has the architecture of an entry of its family."""
    return entry.config is None or msgspec.to_builtins(entry.config) == component.config
