"""What is wrong with a checkpoint."""

from __future__ import annotations

from magvit_runtime.errors import MagvitError


class CheckpointError(MagvitError):
    """A checkpoint can't be read, or its keys, shapes or values are not those of the model."""
