"""magvit-runtime: discrete tokens and classes for trajectory videos, without torch.

>>> from magvit_runtime import Classifier, Detokenizer, Tokenizer
>>> ids = Tokenizer.open("bundle")(clips)  # uint8 [N, T, H, W, 3] -> int32 [N, t, h, w]
>>> Classifier.open("bundle")(ids).labels
>>> Detokenizer.open("bundle")(ids)  # uint8 [N, T, H, W, 3]
>>> FeatureExtractor.open("videomae-base")(clips)  # float32 [N, 1568, 768]
"""

from magvit_runtime.backends.opening import BackendName
from magvit_runtime.bundle.reading import Bundle, open_bundle
from magvit_runtime.classifier import Classifier, ClipClassifier, FeatureClassifier
from magvit_runtime.detokenizer import Detokenizer
from magvit_runtime.errors import (
    BackendError,
    BundleError,
    InputError,
    MagvitError,
    MissingPackageError,
    TrajectoryError,
)
from magvit_runtime.features import FeatureExtractor
from magvit_runtime.generator import Generator
from magvit_runtime.hub.refusals import HubError
from magvit_runtime.quantizers import bits_to_ids, factorize_ids, ids_to_bits, join_ids
from magvit_runtime.tokenizer import Tokenizer
from magvit_runtime.types import Classification, Precision

__all__ = [
    "BackendError",
    "BackendName",
    "Bundle",
    "BundleError",
    "Classification",
    "Classifier",
    "ClipClassifier",
    "Detokenizer",
    "FeatureClassifier",
    "FeatureExtractor",
    "Generator",
    "HubError",
    "InputError",
    "MagvitError",
    "MissingPackageError",
    "Precision",
    "Tokenizer",
    "TrajectoryError",
    "__version__",
    "bits_to_ids",
    "factorize_ids",
    "ids_to_bits",
    "join_ids",
    "open_bundle",
]


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported here: it takes longer than all the rest of this package.
    from importlib.metadata import version

    return version("magvit-runtime")
