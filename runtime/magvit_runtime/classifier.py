"""Token ids in, classes out."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle import Bundle, open_bundle
from magvit_runtime.closing import Closing
from magvit_runtime.errors import BundleError
from magvit_runtime.manifest import ClassifierRecord, TensorSpec
from magvit_runtime.sessions import Backend, Session, open_graph
from magvit_runtime.tensor_check import check_array, check_result
from magvit_runtime.types import Classification


class Classifier(Closing):
    """The classifier of a bundle, ready to run. Open one with `Classifier.open`.

    Thread-safe as far as its session is: with ONNX Runtime, any number of threads may call it.

    Example:
        >>> with Classifier.open("open-magvit2-video-128") as classifier:
        ...     print(classifier(ids).labels)
    """

    def __init__(self, bundle: Bundle, record: ClassifierRecord, session: Session) -> None:
        self.bundle = bundle
        self._record = record
        self._session = session
        self._probabilities = TensorSpec(
            "probabilities", "float32", ("batch", len(record.labels)), "of each class"
        )

    @classmethod
    def open(
        cls, path: str | Path, *, backend: Backend = "auto", threads: int | None = None
    ) -> Self:
        """Opens a bundle's classifier, after checking its files against their digests.

        Raises:
            BundleError: There is no sound bundle at `path`, or it has no classifier.
            BackendError: No backend here can run it.
        """
        bundle = open_bundle(path)
        record = bundle.manifest.classifier
        if record is None:
            raise BundleError(
                f"{path} has no classifier",
                mend=f"magvit train classifier {path} TOKENS.parquet",
            )
        graph = bundle.verified_graph(record.graph)
        session = open_graph(graph, precision="fp32", backend=backend, threads=threads)
        return cls(bundle, record, session)

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class, in the order of the probabilities."""
        return self._record.labels

    def __call__(self, ids: NDArray[np.int32]) -> Classification:
        """Classes of clips.

        Args:
            ids: int32 [N, t, h, w], as `Tokenizer` gives them.

        Raises:
            InputError: The array's type or shape isn't what the classifier takes.
            BackendError: The backend failed.
            BundleError: The graph gives something else than its manifest says.
        """
        spec = self._record.graph.inputs[0]
        check_array("ids", ids, spec)
        (probabilities,) = self._session.run({spec.name: ids}, ["probabilities"])
        check_result(probabilities, self._probabilities, len(ids))
        best = probabilities.argmax(axis=1)
        return Classification(tuple(self.classes[i] for i in best), probabilities, self.classes)

    def close(self) -> None:
        """Frees the session."""
        self._session.close()
