"""Fits a classifier to sources and labels in memory; no files take part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from magvit_export.training.classifier import TrajectoryClassifier
from magvit_export.training.conv_head import ConvHead, Ensemble
from magvit_export.training.descent import DescentOptions, descend
from magvit_export.training.hidden_head import HiddenHead, fit_hidden
from magvit_export.training.joined_classifier import JoinedClassifier
from magvit_export.training.options import FitOptions, HeadKind
from magvit_export.training.ridge import LinearFit, fit_linear
from magvit_export.training.smoothing import smoothed, smoothed_back, spreads_of
from magvit_export.training.sources import Source, Tokens, count_clips, take
from magvit_export.training.splitting import Rows, classes_of, split_by_class
from magvit_runtime.errors import InputError

MAX_CLIPS_FOR_RIDGE = 20_000
# How much a source may count beside the first, of which all are tried.
SHARES = (0.3, 3.0, 0.1, 10.0)
_AT_ONCE = 256
# Weight decay and label smoothing.
_REGULARIZATION = {"linear": (0.01, 0.0), "conv": (0.05, 0.1)}

Head = TrajectoryClassifier | JoinedClassifier | HiddenHead | ConvHead | Ensemble


@dataclass(frozen=True)
class FittedClassifier:
    """A classifier of sources.

    Attributes:
        classes: Name of each class, in the order of the probabilities.
        module: One tensor a source, [N, ...], to logits [N, K]; in evaluation mode.
        facts: What fitting found, for people to read.
    """

    classes: tuple[str, ...]
    module: Head
    facts: dict[str, str | int | float]

    @torch.no_grad()
    def predict_proba(self, sources: Sequence[Source]) -> NDArray[np.float32]:
        """Probabilities of clips, float32 [N, K].

        Args:
            sources: Of the same kinds, sizes and order as those that it was fitted to.
        """
        inputs = _tensors(sources)
        parts = torch.split(torch.arange(count_clips(sources)), _AT_ONCE)
        found = [self.module(*(values[rows] for values in inputs)).softmax(dim=1) for rows in parts]
        probabilities: NDArray[np.float32] = torch.cat(found).numpy()
        return probabilities


def fit(
    sources: Sequence[Source],
    labels: Sequence[str],
    options: FitOptions | None = None,
    *,
    groups: NDArray[np.int64] | None = None,
    varied: NDArray[np.bool_] | None = None,
    classes: Sequence[str] | None = None,
) -> FittedClassifier:
    """Fits a classifier; with the same seed, machine and threads, to the same bits.

    Args:
        sources: What is known of each of N clips: tokens, features, or several of these.
        labels: Class of each clip.
        options: How; the defaults where it is None.
        groups: int64 [N]; rows of one group, as views of one trajectory, are left out together
            where strengths and epochs are chosen. By default each row is alone.
        varied: bool [N]: which rows are varied copies of others, of the same group. They are
            trained on, and no epoch is chosen by them.
        classes: Names of all classes, where some may have no clip here; by default those of the
            labels.

    Raises:
        InputError: There are less than two classes, or sources don't fit each other or the head.
    """
    options = options or FitOptions()
    count = count_clips(sources)
    classes, targets = classes_of(labels, classes)
    if len(classes) < 2 or (targets < 0).any() or len(targets) != count:
        raise InputError(
            "training needs a label for each clip, and two classes at least",
            found=f"{len(classes)} classes, {count} clips, {len(labels)} labels",
        )
    groups = np.arange(count) if groups is None else groups
    varied = np.zeros(count, bool) if varied is None else varied
    options = replace(options, head=head_of(sources, varied, options))
    fits = {"linear": _fit_linear, "hidden": _fit_hidden, "conv": _fit_conv}
    with torch.random.fork_rng(devices=[]):
        module, facts = fits[options.head](sources, targets, len(classes), groups, varied, options)
    facts["head"] = options.head
    return FittedClassifier(classes, module.eval().requires_grad_(False), facts)


def head_of(sources: Sequence[Source], varied: NDArray[np.bool_], options: FitOptions) -> HeadKind:
    """The head that options name, or that suits these clips best."""
    if options.head != "auto":
        return options.head
    is_alone = len(sources) == 1 and isinstance(sources[0], Tokens)
    return "hidden" if is_alone and varied.any() and options.suits_hidden else "linear"


_Fitted = tuple[Head, dict[str, str | int | float]]


def _fit_linear(
    sources: Sequence[Source],
    targets: NDArray[np.int64],
    num_classes: int,
    groups: NDArray[np.int64],
    varied: NDArray[np.bool_],
    options: FitOptions,
) -> _Fitted:
    _check_count(targets)
    torch.manual_seed(options.seed)
    model = _linear_model(sources, num_classes, options)
    weights = _class_weights(targets, num_classes, options)
    # Where epochs follow, the clips that choose among them take no part in the fit either.
    train, validation = _validation_split(targets, groups, varied, options)
    inputs = _tensors(take(sources, train))
    truth = torch.from_numpy(targets[train])
    of_rows = None if weights is None else weights[truth]

    def fitted_now(spread: float) -> LinearFit:
        numbers = torch.from_numpy(groups[train])
        features = smoothed(model.features(*inputs), model.blocks, spread)
        return fit_linear(features, truth, num_classes, numbers, of_rows)

    with torch.no_grad():
        fitted, spread = _best_spread_and_shares(model, inputs, fitted_now)
        model.head.weight.copy_(smoothed_back(fitted.weight, model.blocks, spread))
        model.head.bias.copy_(fitted.bias)
    facts: dict[str, str | int | float] = {"strength": fitted.strength, "smoothing": spread}
    if _epochs(varied, options):
        facts["epochs"] = _descend(
            model, sources, targets, train, validation, weights, varied, options
        )
    return model, facts


def _best_spread_and_shares(
    model: TrajectoryClassifier | JoinedClassifier,
    inputs: Sequence[Tensor],
    fitted_now: Callable[[float], LinearFit],
) -> tuple[LinearFit, float]:
    """Finds how smooth weights should be, and weighs the sources of a model in place.

    The choice is what predicts clips best that are left out: first of the spread, while all sources
    count alike; then of each source after the first, which is tried with more and with less.
    """
    shares = [1.0] * len(inputs)
    if isinstance(model, JoinedClassifier):
        model.weigh(inputs, shares)
    fits = {spread: fitted_now(spread) for spread in spreads_of(model.blocks)}
    spread = min(fits, key=lambda tried: fits[tried].leave_one_out_loss)
    best = fits[spread]
    if not isinstance(model, JoinedClassifier):
        return best, spread
    for source in range(1, len(inputs)):
        kept = shares
        for share in SHARES:
            tried = [*kept[:source], share, *kept[source + 1 :]]
            model.weigh(inputs, tried)
            found = fitted_now(spread)
            if found.leave_one_out_loss < best.leave_one_out_loss:
                best, shares = found, tried
    model.weigh(inputs, shares)
    return best, spread


def _linear_model(
    sources: Sequence[Source], num_classes: int, options: FitOptions
) -> TrajectoryClassifier | JoinedClassifier:
    first = sources[0]
    if len(sources) == 1 and isinstance(first, Tokens):
        return TrajectoryClassifier(
            first.vocabulary,
            options.embedding,
            num_classes=num_classes,
            grid=first.ids.shape[1:],
            width=options.token_width,
        )
    return JoinedClassifier(
        sources, options.embedding, num_classes=num_classes, width=options.token_width
    )


def _fit_hidden(
    sources: Sequence[Source],
    targets: NDArray[np.int64],
    num_classes: int,
    groups: NDArray[np.int64],
    _: NDArray[np.bool_],
    options: FitOptions,
) -> _Fitted:
    _check_count(targets)
    tokens = _tokens_alone(sources, "hidden")
    truth, (ids,) = torch.from_numpy(targets), _tensors(sources)
    weights = _class_weights(targets, num_classes, options)
    return fit_hidden(
        ids,
        tokens.vocabulary,
        truth,
        num_classes,
        torch.from_numpy(groups),
        None if weights is None else weights[truth],
        options.seed,
    )


def _check_count(targets: NDArray[np.int64]) -> None:
    if len(targets) > MAX_CLIPS_FOR_RIDGE:
        raise InputError(
            "the closed-form fit takes too many clips",
            found=len(targets),
            expected=f"at most {MAX_CLIPS_FOR_RIDGE}",
            mend="raise --holdout",
        )


def _tokens_alone(sources: Sequence[Source], head: HeadKind) -> Tokens:
    first = sources[0]
    if len(sources) > 1 or not isinstance(first, Tokens):
        raise InputError(
            f"a {head} head takes tokens alone", mend="--head linear takes any sources"
        )
    return first


def _fit_conv(
    sources: Sequence[Source],
    targets: NDArray[np.int64],
    num_classes: int,
    groups: NDArray[np.int64],
    varied: NDArray[np.bool_],
    options: FitOptions,
) -> _Fitted:
    first = _tokens_alone(sources, "conv")
    weights = _class_weights(targets, num_classes, options)
    members: list[ConvHead] = []
    epochs: list[int] = []
    for member in range(options.members):
        seeded = replace(options, seed=options.seed + member)
        torch.manual_seed(seeded.seed)
        head = ConvHead(first.vocabulary, num_classes=num_classes, grid=first.ids.shape[1:])
        train, validation = _validation_split(targets, groups, varied, seeded)
        epochs.append(_descend(head, sources, targets, train, validation, weights, varied, seeded))
        members.append(head)
    facts: dict[str, str | int | float] = {"epochs": max(epochs), "members": options.members}
    folded = [member.eval().folded() for member in members]
    return (folded[0] if options.members == 1 else Ensemble(folded)), facts


def _validation_split(
    targets: NDArray[np.int64],
    groups: NDArray[np.int64],
    varied: NDArray[np.bool_],
    options: FitOptions,
) -> tuple[Rows, Rows]:
    """Rows to follow gradients on, and rows that choose among epochs; none where there are none."""
    rows = np.arange(len(targets))
    if _epochs(varied, options) == 0 or options.validation == 0:
        return rows, rows[:0]
    train, validation = split_by_class(targets, rows, options.validation, options.seed, groups)
    return train, validation[~varied[validation]]


def _descend(
    model: nn.Module,
    sources: Sequence[Source],
    targets: NDArray[np.int64],
    train: Rows,
    validation: Rows,
    class_weights: Tensor | None,
    varied: NDArray[np.bool_],
    options: FitOptions,
) -> int:
    truth = torch.from_numpy(targets)
    checked = (_tensors(take(sources, validation)), truth[validation]) if len(validation) else None
    return descend(
        model,
        _tensors(take(sources, train)),
        truth[train],
        checked,
        class_weights,
        DescentOptions(
            _epochs(varied, options),
            options.rate,
            *_REGULARIZATION[options.head],
            options.precision,
        ),
        torch.Generator().manual_seed(options.seed),
    )


def _epochs(varied: NDArray[np.bool_], options: FitOptions) -> int:
    return options.most_epochs(len(varied) / max(1, int((~varied).sum())))


def _class_weights(
    targets: NDArray[np.int64], num_classes: int, options: FitOptions
) -> Tensor | None:
    """Of each class: 1 on average over the clips, and the same in sum over each class's clips."""
    if options.class_weights == "none":
        return None
    counts = np.bincount(targets, minlength=num_classes)
    return torch.from_numpy(len(targets) / (num_classes * np.maximum(counts, 1))).float()


def _tensors(sources: Sequence[Source]) -> list[Tensor]:
    kinds = [np.int32 if isinstance(source, Tokens) else np.float32 for source in sources]
    return [
        torch.from_numpy(np.ascontiguousarray(source.values, kind))
        for source, kind in zip(sources, kinds, strict=True)
    ]
