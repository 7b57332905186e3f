"""Parts of tokens."""

from __future__ import annotations

from magvit_runtime.clips.video import Tail
from magvit_runtime.results.token_files import token_parquet
from magvit_runtime.runs.parts import Part
from magvit_runtime.runs.running import Content
from magvit_runtime.tokenizer import Tokenizer


def token_part(part: Part, tokenizer: Tokenizer, tail: Tail | None = None) -> Content:
    """The file of a part's tokens.

    Args:
        part: Its clips.
        tokenizer: Makes the tokens.
        tail: The rule for the last frames of a video, for the record.

    Raises:
        InputError: The clips aren't what the model takes.
        BackendError: The backend failed.
    """
    batches = ((batch, tokenizer(batch.frames)) for batch in part.batches)
    content, rows, info = token_parquet(batches, tokenizer.bundle, tail, part.drawing)
    return content, rows, info
