"""Token ids, features or clips in, classes out."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.batched_role import BatchedRole
from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.bundle.manifest import GraphRecord, Head, Kind
from magvit_runtime.bundle.reading import Bundle, train_command
from magvit_runtime.errors import BundleError
from magvit_runtime.types import Array, Classification, Pool

# Name of the head.
CLASSIFIER = "classifier"


class _WithClasses(BatchedRole):
    """A graph that gives probabilities.

    Attributes:
        KIND: What its one input is.
    """

    KIND: ClassVar[Kind]

    @classmethod
    def _check(cls, bundle: Bundle) -> None:
        head = bundle.manifest.heads.get(CLASSIFIER)
        if head is None:
            raise BundleError(f"{bundle.path} has no classifier", mend=train_command(bundle))
        for graph in bundle.graphs(cls.ROLE).values():
            if [spec.kind for spec in graph.inputs] != [cls.KIND]:
                raise BundleError(
                    f"the classifier in {bundle.path} takes something else",
                    found=" and ".join(spec.name for spec in graph.inputs),
                    expected=cls.KIND,
                    mend=_way_to_run(bundle, graph),
                )
            made = graph.output_of("probabilities")
            if made.shape[1:] != (len(head.labels),):
                raise BundleError(
                    f"{graph.file} in {bundle.path} doesn't give a probability for each class",
                    found=list(made.shape),
                    expected=["batch", len(head.labels)],
                    mend=train_command(bundle),
                )

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class, in the order of the probabilities."""
        return self._head.labels

    @property
    def drawing(self) -> DrawingRecord | None:
        """How the trajectories that it was trained on were drawn; None where it isn't known."""
        return self._head.drawing

    @property
    def _head(self) -> Head:
        return self.bundle.manifest.heads[CLASSIFIER]

    def _classify(self, items: Array) -> Classification:
        probabilities = self._run(items, self._graph.output_of("probabilities"))
        best = probabilities.argmax(axis=1)
        return Classification(tuple(self.classes[i] for i in best), probabilities, self.classes)


class Classifier(_WithClasses):
    """The classifier of a bundle, ready to run. Open one with `Classifier.open`.

    Thread-safe: any number of threads may call it. It can be pickled, and used in a forked process
    unless it runs on a GPU; docs/embedding.md has the rules.

    Example:
        >>> with Classifier.open("open-magvit2-video-128") as classifier:
        ...     print(classifier(ids).labels)
    """

    ROLE = "classify"
    TASK = "classify"
    ITEMS = "ids"
    KIND = "ids"

    @property
    def grid(self) -> tuple[int | str, ...]:
        """Ids of one clip, [t, h, w] or [h, w]; a string stands for any size."""
        return self._item_shape()

    def __call__(self, ids: NDArray[np.int32]) -> Classification:
        """Classes of clips.

        Args:
            ids: int32 [N, t, h, w], as `Tokenizer` gives them.

        Raises:
            InputError: The array's type or shape isn't what the classifier takes, or an id is none
                of the tokenizer's.
            BackendError: The backend failed.
            BundleError: The graph gives something else than its manifest says.
        """
        return self._classify(ids)


class FeatureClassifier(_WithClasses):
    """A classifier of features, in the bundle of their model. Open one with `.open`.

    Thread-safe, and pickled or forked, as `Classifier` is.

    Example:
        >>> with FeatureClassifier.open("videomae-base") as classifier:
        ...     print(classifier(extractor(clips, classifier.pool)).labels)
    """

    ROLE = "classify"
    TASK = "classify"
    ITEMS = "features"
    KIND = "features"

    @property
    def pool(self) -> Pool:
        """How the features that it takes are pooled, as `FeatureExtractor` does it."""
        return "mean" if len(self._item_shape()) == 1 else "none"

    def __call__(self, features: NDArray[np.float32]) -> Classification:
        """Classes of clips.

        Args:
            features: float32 [N, ...], as `FeatureExtractor` gives them with this pool.

        Raises:
            InputError: The array's type or shape isn't what the classifier takes.
            BackendError: The backend failed.
            BundleError: The graph gives something else than its manifest says.
        """
        return self._classify(features)


class ClipClassifier(_WithClasses):
    """The encoder and the classifier of a bundle in one graph. Open one with `ClipClassifier.open`.

    It gives what `Classifier` gives of the ids of `Tokenizer`. Thread-safe, and pickled or forked,
    as they are.

    Example:
        >>> with ClipClassifier.open("open-magvit2-video-128") as classifier:
        ...     print(classifier(clips).labels)  # uint8 [N, 17, 128, 128, 3]
    """

    ROLE = "classify-clips"
    TASK = "classify_clips"
    ITEMS = "clips"
    KIND = "pixels"

    @property
    def clip_shape(self) -> tuple[int | str, ...]:
        """Shape of one clip, [T, H, W, 3] or [H, W, 3]: of the clips that it was trained on."""
        return self._item_shape()

    def __call__(self, clips: NDArray[np.uint8]) -> Classification:
        """Classes of clips.

        Args:
            clips: uint8 RGB in 0..255, [N, T, H, W, 3], or [N, H, W, 3] for an image model.

        Raises:
            InputError: The array's type or shape isn't what the model takes.
            BackendError: The backend failed.
            BundleError: The graph gives something else than its manifest says.
        """
        return self._classify(clips)


def _way_to_run(bundle: Bundle, graph: GraphRecord) -> str:
    """How a classifier of features, or of several sources, is run."""
    if [spec.kind for spec in graph.inputs] == ["features"]:
        return "open it with FeatureClassifier; `magvit classify` does"
    names = ", ".join(spec.name for spec in graph.inputs)
    return (
        f"make each source with `magvit tokenize` and `magvit features`, and run "
        f"{bundle.path / graph.file} in ONNX Runtime with the inputs {names}"
    )
