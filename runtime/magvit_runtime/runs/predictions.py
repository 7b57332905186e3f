"""Parts of predictions."""

from __future__ import annotations

from magvit_runtime.classifier import Classifier
from magvit_runtime.results.pooling import pool_views
from magvit_runtime.results.predictions import PredictionInfo, prediction_parquet
from magvit_runtime.results.token_table import token_file_info
from magvit_runtime.runs.parts import Part
from magvit_runtime.runs.running import Content
from magvit_runtime.tokenizer import Tokenizer


def prediction_part(
    part: Part, tokenizer: Tokenizer, classifier: Classifier, views: int = 1, variations: int = 0
) -> Content:
    """The file of what is predicted of a part's clips.

    Args:
        part: Its clips.
        tokenizer: Makes their tokens.
        classifier: Makes classes of these.
        views: Views of each trajectory.
        variations: Varied copies of each, which make one row with it.

    Raises:
        InputError: The clips aren't what the models take.
        BackendError: The backend failed.
    """
    tokens = token_file_info(tokenizer.bundle, ())
    info = PredictionInfo(tokens.model, tokens.weights, classifier.classes)
    batches = (
        (batch.ids, batch.labels, classifier(tokenizer(batch.frames))) for batch in part.batches
    )
    content, rows = prediction_parquet(pool_views(batches, views, variations), info)
    return content, rows, info
