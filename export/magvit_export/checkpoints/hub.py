"""Fetches published checkpoints through the Hugging Face hub, into its own cache."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download

from magvit_export.catalog import CatalogEntry
from magvit_runtime.errors import InputError
from magvit_runtime.hub.refusals import HubError, hub_failures, refusal

# Of a repository that is a whole model; the weights that are taken first, first.
_CONFIGS = ("config.json", "*processor_config.json")
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")


def fetch_checkpoint(entry: CatalogEntry, revision: str | None = None) -> Path:
    """Downloads a model's checkpoint, or finds it in the hub's cache.

    Of a repository that is a whole model, its configs and weights: safetensors where there are any.

    Args:
        entry: A model with published weights.
        revision: Commit, tag or branch of its repository; None is its main branch.

    Returns:
        The file, or the folder of a whole model.

    Raises:
        InputError: The model has no published checkpoint.
        HubError: The hub can't be reached, or refuses.
    """
    if entry.repo is None:
        raise InputError(
            f"{entry.name} has no published checkpoint", mend="use --weights seeded or a file"
        )
    try:
        if entry.file is not None:
            return Path(hf_hub_download(entry.repo, entry.file, revision=revision))
        return _fetch_folder(entry.repo, revision)
    except hub_failures() as error:
        raise HubError(
            f"can't fetch {entry.file or 'the model'} from {entry.repo}",
            found=refusal(error, entry.repo, revision).reason,
            mend=f"download the file by hand and use --weights {entry.file}"
            if entry.file
            else f"download its files by hand (git clone https://huggingface.co/{entry.repo}), and "
            "give their folder to --weights",
        ) from error


def _fetch_folder(repo: str, revision: str | None) -> Path:
    for weights in _WEIGHTS:
        patterns = [*_CONFIGS, weights, f"{weights}.index.json"]
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
        if any(folder.glob(weights)):
            break
    return folder
