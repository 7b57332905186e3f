"""What token ids mean: vocabularies, and ids ↔ codes. Pure NumPy, without tables."""

from magvit_runtime.quantizers.vocabulary import check_ids, vocabulary_size

__all__ = ["check_ids", "vocabulary_size"]
