"""The methods that `magvit evaluate classes` compares, made of what its options name."""

from __future__ import annotations

from collections.abc import Callable

from magvit_export.evaluation.class_options import MethodOptions
from magvit_export.evaluation.clip_outputs import clip_features, clip_tokens
from magvit_export.evaluation.fine_tuned import fine_tuned
from magvit_export.evaluation.labelled import Labelled, Split
from magvit_export.evaluation.methods import (
    Method,
    Probabilities,
    classifier_of,
    coordinate_methods,
)
from magvit_export.evaluation.model_choice import ModelChoice
from magvit_export.training.options import FitOptions
from magvit_runtime.bundle.weights_label import weights_label


def build_methods(
    data: Labelled,
    tokenizers: tuple[ModelChoice, ...],
    features: tuple[ModelChoice, ...],
    options: MethodOptions,
    begin: Callable[[str, int], Callable[[int], None]],
) -> tuple[Method, ...]:
    """All rows, but for ensembles; makes the tokens and features that they need.

    Args:
        data: The trajectories.
        tokenizers: Models whose tokens are rows.
        features: Models whose features are rows.
        options: How they are trained.
        begin: Called with what is made and of how many trajectories; what it gives is called with
            the number done.
    """
    rows: list[Method] = []
    for model in tokenizers:
        copies = max(options.augment, options.variations)
        advance = begin(f"tokens of {model.name}", len(data.truth) * (1 + copies))
        tokens = clip_tokens(model.bundle.path, data, copies, options.seed, advance)
        rows += [
            _row(
                model,
                f"tokens, {head.head}",
                classifier_of(tokens, data, head, options.augment, options.variations),
            )
            for head in options.each_head()
        ]
    if options.fine_tune:
        model, head = tokenizers[-1], options.each_head()[0]
        predict = fine_tuned(model, data, head, options.fine_tune, options.augment)
        rows.append(_row(model, f"tokens, fine-tuned, {head.head}", predict))
    for model in features:
        found = clip_features(
            model.bundle.path, data, begin(f"features of {model.name}", len(data.truth))
        )
        predict = classifier_of(found, data, FitOptions(head="linear", seed=options.seed))
        rows.append(_row(model, "features, linear", predict))
    return (*rows, *coordinate_methods(data, options.seed, options.net_steps))


def _row(model: ModelChoice, named: str, predict: Callable[[Split], Probabilities]) -> Method:
    label = f"{model.bundle.manifest.model}, {weights_label(model.bundle)}"
    return Method(f"{model.name} {named}", label, model.bundle.is_seeded, predict)
