"""Fetches published checkpoints through the Hugging Face hub, into its own cache."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from magvit_export.catalog import CatalogEntry
from magvit_runtime.errors import InputError, MagvitError, first_line


class HubError(MagvitError):
    """A checkpoint can't be fetched from the hub."""


def fetch_checkpoint(entry: CatalogEntry, revision: str | None = None) -> Path:
    """Downloads a model's checkpoint, or finds it in the hub's cache.

    Args:
        entry: A model with published weights.
        revision: Commit, tag or branch of its repository; None is its main branch.

    Raises:
        InputError: The model has no published checkpoint.
        HubError: The hub can't be reached, or refuses.
    """
    if entry.repo is None or entry.file is None:
        raise InputError(
            f"{entry.name} has no published checkpoint", mend="use --weights seeded or a file"
        )
    try:
        return Path(hf_hub_download(entry.repo, entry.file, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise HubError(
            f"can't fetch {entry.file} from {entry.repo}",
            found=first_line(error),
            mend=f"download the file by hand and use --weights {entry.file}",
        ) from error
