"""The models whose tokens and features `magvit evaluate classes` compares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from magvit_export.catalog import all_models, find_model
from magvit_export.checkpoints.packaged import TRAINED, packaged_checkpoint
from magvit_export.exporting import export_model
from magvit_export.training.whole_way import MODEL
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import MANIFEST_NAME, Bundle, open_bundle
from magvit_runtime.errors import InputError
from magvit_runtime.hub.addresses import is_address


@dataclass(frozen=True)
class ModelChoice:
    """A model whose tokens or features are rows.

    Attributes:
        name: What its rows are called.
        bundle: Directory of the exported model.
        role: encode, or features.
        source: What its weights were given as; None of a bundle that was there.
    """

    name: str
    bundle: Bundle
    role: Role
    source: str | None


def default_tokenizers() -> list[str]:
    """Generated weights, and those that ship with the package where there are any."""
    ships = packaged_checkpoint(MODEL) is not None
    return ["random=seeded", *([f"trained={TRAINED}"] if ships else [])]


def choose_model(text: str, role: Role, folder: Path) -> ModelChoice:
    """The model that an option names, exported if it is no bundle yet.

    Args:
        text: NAME=WHAT. WHAT is a bundle; or weights (a checkpoint, hub, trained, seeded or
            seeded:N) of the catalog's model NAME, or else, for tokens, of the small preset.
        role: What is needed of it.
        folder: For what is exported.

    Raises:
        InputError: The text names nothing, or weights of an unknown model.
        MagvitError: The model can't be exported, or the bundle can't be opened.
    """
    name, equals, what = text.partition("=")
    if not (name and equals and what):
        raise InputError("a model needs a name", found=text, expected="NAME=BUNDLE or NAME=WEIGHTS")
    if is_address(what) or (Path(what) / MANIFEST_NAME).is_file():
        return ModelChoice(name, open_bundle(what), role, None)
    is_known = any(entry.name == name for entry in all_models())
    entry = find_model(name if is_known or role == "features" else MODEL)
    return ModelChoice(name, export_model(entry, folder, weights=what, roles=[role]), role, what)
