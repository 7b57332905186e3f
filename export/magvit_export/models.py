"""Open-MAGVIT2's reference models in PyTorch, for scripts."""

from magvit_export.families.magvit.decoder import Decoder
from magvit_export.families.magvit.encoder import Encoder
from magvit_export.families.magvit.tokenizer import MagvitTokenizer, empty_tokenizer

__all__ = ["Decoder", "Encoder", "MagvitTokenizer", "empty_tokenizer"]
