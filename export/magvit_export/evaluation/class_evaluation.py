"""All of `magvit evaluate classes`: data, models and methods to comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from magvit_export.evaluation.class_methods import build_methods
from magvit_export.evaluation.class_options import GeneratedOptions, MethodOptions
from magvit_export.evaluation.comparing import compare
from magvit_export.evaluation.labelled import Labelled, Split, folds, generated, growing
from magvit_export.evaluation.methods import Method
from magvit_export.evaluation.model_choice import ModelChoice
from magvit_runtime.clips.trajectories import Cameras, RenderStyle
from magvit_runtime.evaluation.class_results import Comparison

# Told what is being done and how much of it; what it gives is told how much is done.
Begin = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True)
class Contestants:
    """What is compared.

    Attributes:
        tokenizers: Models whose tokens are rows.
        features: Models whose features are rows.
        options: How methods are trained.
        ensembles: Further rows, each named by its members: "A + B". None makes one of the last
            row of tokens and the net on coordinates.
    """

    tokenizers: tuple[ModelChoice, ...]
    features: tuple[ModelChoice, ...]
    options: MethodOptions
    ensembles: tuple[str, ...] | None = None

    def methods(self, data: Labelled, begin: Begin) -> tuple[Method, ...]:
        """The rows, but for ensembles."""
        return build_methods(data, self.tokenizers, self.features, self.options, begin)

    def members(self, methods: Sequence[Method]) -> dict[str, list[str]]:
        """Names of the members of each ensemble, by its name."""
        texts = self.ensembles
        if texts is None:
            tokens = [method.name for method in methods if " tokens, " in method.name]
            texts = (f"{tokens[-1]} + {methods[-1].name}",) if tokens else ()
        return {text: [name.strip() for name in text.split(" + ")] for text in texts}


def compare_by_folds(
    data: Labelled, contestants: Contestants, count: int, repeats: int, begin: Begin
) -> Comparison:
    """Compares on stratified folds of all trajectories.

    Args:
        data: The trajectories.
        contestants: What is compared.
        count: Folds.
        repeats: Times, each with other folds.
        begin: Called with what is done.

    Raises:
        InputError: The data have too few trajectories or groups for the folds; or as of `compare`.
    """
    splits = folds(data, count, repeats, contestants.options.seed)
    times = f", {repeats} times" if repeats > 1 else ""
    return _compare(data, splits, contestants, f"{count} stratified folds{times}", None, begin)


def compare_by_size(
    options: GeneratedOptions,
    contestants: Contestants,
    style: RenderStyle,
    cameras: Cameras,
    begin: Begin,
) -> list[Comparison]:
    """Compares on generated trajectories, by noise and by how many there are to train on.

    Args:
        options: What is generated.
        contestants: What is compared.
        style: How trajectories are drawn.
        cameras: See them, in three dimensions.
        begin: Called with what is done.

    Raises:
        InputError: An option is out of range; or as of `compare`.
    """
    found = []
    # Of another seed than what `magvit train tokenizer` generates by default.
    for level in options.levels(contestants.options.seed + 1):
        data = generated(level, style, cameras)
        methods = contestants.methods(data, begin)
        sizes = growing(data, options.sizes, options.test_per_class, options.training_sets)
        for size, splits in sizes.items():
            words = f"{len(splits)} training sets"
            found.append(_compare(data, splits, contestants, words, size, begin, methods))
    return found


def _compare(
    data: Labelled,
    splits: Sequence[Split],
    contestants: Contestants,
    words: str,
    per_class: int | None,
    begin: Begin,
    methods: Sequence[Method] | None = None,
) -> Comparison:
    methods = contestants.methods(data, begin) if methods is None else methods
    of_size = "" if per_class is None else f", {per_class} a class"
    return compare(
        data,
        splits,
        methods,
        split_words=words,
        per_class=per_class,
        ensembles=contestants.members(methods),
        advance=begin(f"methods on {data.name}{of_size}", len(methods)),
    )
