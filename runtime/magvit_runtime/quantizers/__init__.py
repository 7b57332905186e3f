"""What token ids mean: vocabularies, and ids ↔ codes. Pure NumPy, without tables."""

from magvit_runtime.quantizers.lfq import bits_to_ids, factorize_ids, ids_to_bits, join_ids
from magvit_runtime.quantizers.vocabulary import check_ids, sign_bits, vocabulary_size

__all__ = [
    "bits_to_ids",
    "check_ids",
    "factorize_ids",
    "ids_to_bits",
    "join_ids",
    "sign_bits",
    "vocabulary_size",
]
