"""PyTorch reference models: the Open-MAGVIT2 tokenizer family, written from its description."""

from magvit_export.models.decoder import Decoder
from magvit_export.models.encoder import Encoder
from magvit_export.models.tokenizer import MagvitTokenizer, empty_tokenizer

__all__ = ["Decoder", "Encoder", "MagvitTokenizer", "empty_tokenizer"]
