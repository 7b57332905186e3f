"""magvit-runtime: discrete tokens and classes for trajectory videos, without torch.

>>> from magvit_runtime import Classifier, Tokenizer
>>> ids = Tokenizer.open("bundle")(clips)  # uint8 [N, T, H, W, 3] -> int32 [N, t, h, w]
>>> Classifier.open("bundle")(ids).labels
"""

from magvit_runtime.bundle.reading import Bundle, open_bundle
from magvit_runtime.classifier import Classifier
from magvit_runtime.errors import (
    BackendError,
    BundleError,
    InputError,
    MagvitError,
    MissingPackageError,
    TrajectoryError,
)
from magvit_runtime.quantizers.lfq import bits_to_ids, factorize_ids, ids_to_bits, join_ids
from magvit_runtime.tokenizer import Tokenizer
from magvit_runtime.types import Classification

__all__ = [
    "BackendError",
    "Bundle",
    "BundleError",
    "Classification",
    "Classifier",
    "InputError",
    "MagvitError",
    "MissingPackageError",
    "Tokenizer",
    "TrajectoryError",
    "bits_to_ids",
    "factorize_ids",
    "ids_to_bits",
    "join_ids",
    "open_bundle",
]
