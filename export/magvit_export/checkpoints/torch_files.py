"""torch.load, without what it concludes from a file's name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch


def torch_load(
    path: Path, *, is_zip: bool, weights_only: bool, pickle_module: Any = None
) -> object:
    """Reads a file of torch.save onto the CPU, memory-mapped where that is possible.

    Args:
        path: The file.
        is_zip: Files from before torch 1.6 aren't zip archives, and can't be mapped.
        weights_only: Leave the reading to torch's restricted unpickler.
        pickle_module: What reads otherwise; it must be as safe.
    """
    # By this name torch takes a file for one of safetensors, unless it comes opened.
    misnamed = path.name.endswith(".safetensors")
    with warnings.catch_warnings(), path.open("rb") as file:
        # Of a pickle's unusual protocol, and of classes whose source can't be compared.
        warnings.simplefilter("ignore")
        return torch.load(
            file if misnamed else path,
            map_location="cpu",
            weights_only=weights_only,
            pickle_module=pickle_module,
            mmap=is_zip and not misnamed,
        )
