"""Token ids in, classes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.backend import Session
from magvit_runtime.backends.onnx_runtime.backend import open_graph
from magvit_runtime.backends.opening import BackendName, check_options
from magvit_runtime.backends.tensor_check import check_array, check_result
from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.bundle.manifest import GraphRecord, Head, TensorSpec
from magvit_runtime.bundle.reading import Bundle, open_bundle
from magvit_runtime.door import Door
from magvit_runtime.errors import BundleError, InputError
from magvit_runtime.types import Classification

# Name of the head.
CLASSIFIER = "classifier"


class Classifier(Door):
    """The classifier of a bundle, ready to run. Open one with `Classifier.open`.

    Thread-safe: any number of threads may call it. It can be pickled, and used in a forked process
    unless it runs on a GPU; docs/embedding.md has the rules.

    Example:
        >>> with Classifier.open("open-magvit2-video-128") as classifier:
        ...     print(classifier(ids).labels)
    """

    def __init__(
        self,
        bundle: Bundle,
        head: Head,
        graph: GraphRecord,
        probabilities: TensorSpec,
        session: Session,
        options: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(bundle, graph, session, options)
        self._head = head
        self._ids = graph.inputs[0]
        self._probabilities = probabilities

    @classmethod
    def open(
        cls, path: str | Path, *, backend: BackendName | str = "auto", threads: int | None = None
    ) -> Self:
        """Opens a bundle's classifier, after checking its files against their digests.

        Raises:
            InputError: The backend is unknown or runs no classifiers, or `threads` isn't positive.
            BundleError: There is no sound bundle at `path`, or it has no classifier.
            BackendError: No backend here can run it.
        """
        bundle = open_bundle(path)
        head = bundle.manifest.heads.get(CLASSIFIER)
        if head is None:
            raise BundleError(
                f"{path} has no classifier",
                mend=f"magvit train classifier {path} TOKENS.parquet",
            )
        check_options(backend, threads)
        if backend not in ("auto", "onnxruntime"):
            raise InputError(f"{backend} runs encoders only", mend="leave `backend` out")
        reason = "only ONNX Runtime runs it" if backend == "auto" else "asked for"
        precision, graph = bundle.graph(head.graph)
        made = graph.output_of("probabilities")
        if made.shape[1:] != (len(head.labels),):
            raise BundleError(
                f"the classifier's graph in {path} doesn't give a probability for each class",
                found=list(made.shape),
                expected=["batch", len(head.labels)],
                mend=f"magvit train classifier {path} TOKENS.parquet",
            )
        onnx = bundle.verified_graph(graph)
        session = open_graph(onnx, precision=precision, threads=threads, reason=reason)
        options = {"backend": backend, "threads": threads}
        return cls(bundle, head, graph, made, session, options)

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class, in the order of the probabilities."""
        return self._head.labels

    @property
    def drawing(self) -> DrawingRecord | None:
        """How the trajectories that it was trained on were drawn; None where it isn't known."""
        return self._head.drawing

    @property
    def grid(self) -> tuple[int | str, ...]:
        """Ids of one clip, [t, h, w] or [h, w]; a string stands for any size."""
        return self._ids.shape[1:]

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
        check_array("ids", ids, self._ids)
        (probabilities,) = self._session.run({self._ids.name: ids}, [self._probabilities.name])
        check_result(probabilities, self._probabilities, len(ids))
        best = probabilities.argmax(axis=1)
        return Classification(tuple(self.classes[i] for i in best), probabilities, self.classes)
