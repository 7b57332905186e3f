"""What is timed: every way to run a role of a bundle here, each as one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from magvit_runtime.backends.backend import Candidate, Capabilities, Opening, Session
from magvit_runtime.benchmarks.results import EncoderRecord
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.classifier import Classifier, ClipClassifier
from magvit_runtime.cuda.stage_times import StageTimes
from magvit_runtime.detokenizer import Detokenizer
from magvit_runtime.features import FeatureExtractor
from magvit_runtime.tokenizer import Tokenizer
from magvit_runtime.types import Array

# What a call takes and gives: frames and ids of an encoder, ids and frames of a decoder, frames and
# features, ids or frames and probabilities.
Frames = Array
Ids = Array

Model = Tokenizer | Detokenizer | FeatureExtractor | Classifier | ClipClassifier
MODEL_CLASSES: dict[Role, type[Model]] = {
    "encode": Tokenizer,
    "decode": Detokenizer,
    "features": FeatureExtractor,
    "classify": Classifier,
    "classify-clips": ClipClassifier,
}


@dataclass(frozen=True)
class TimedEncoder:
    """One way to run the encoder, or the decoder.

    Attributes:
        record: What it is.
        encode: uint8 clips [N, T, H, W, 3] (or [N, H, W, 3]) to ids [N, t, h, w], or of a decoder
            the other way; returns when they are there.
        close: Frees what it holds.
        run_seconds: Each call appends the seconds of the backend's own run; None for a peer, whose
            call is nothing but that run.
        stage_seconds: Each call appends the seconds of each of `STAGES` on a GPU; None elsewhere.
    """

    record: EncoderRecord
    encode: Callable[[Frames], Ids]
    close: Callable[[], None]
    run_seconds: list[float] | None = None
    stage_seconds: list[tuple[float, ...]] | None = None


@dataclass(frozen=True)
class NotRun:
    """A way that can't be run here, and why."""

    name: str
    why: str


@dataclass
class TimedSession:
    """A session that notes how long each run took; as thread-safe as the session that it wraps."""

    session: Session
    seconds: list[float] = field(default_factory=list)

    @property
    def capabilities(self) -> Capabilities:
        """See `Session.capabilities`."""
        return self.session.capabilities

    @property
    def stage_times(self) -> StageTimes | None:
        """See `Session.stage_times`."""
        return self.session.stage_times

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Runs the graph once; see `Session.run`."""
        begin = time.perf_counter()
        results = self.session.run(inputs, outputs)
        self.seconds.append(time.perf_counter() - begin)
        return results

    def close(self) -> None:
        """See `Session.close`."""
        self.session.close()


def open_option(
    bundle: Bundle, option: Candidate, largest_batch: int, threads: int | None
) -> TimedEncoder:
    """One of our own encoders, as users call it.

    Args:
        bundle: The bundle.
        option: Which of the ways to run it.
        largest_batch: Clips that may run at once.
        threads: CPU threads of one run; None is the backend's own choice.

    Raises:
        BackendError: The backend can't load it.
        BundleError: A file was changed.
    """
    session = TimedSession(option.open(Opening("timed", threads)))
    model = MODEL_CLASSES[option.role](bundle, option.graph, session, largest_batch)
    ours = session.capabilities
    details = [f"{ours.threads} threads" if ours.threads else "", ours.launches]
    record = EncoderRecord(
        name=option.subject,
        kind="ours",
        version=ours.version,
        device=ours.device,
        precision=ours.precision,
        settings=", ".join(filter(None, details)),
    )
    stages = session.stage_times
    if stages is not None:
        stages.seconds = []
    return TimedEncoder(
        record,
        _arrays_of(model),
        model.close,
        session.seconds,
        None if stages is None else stages.seconds,
    )


def _arrays_of(model: Model) -> Callable[[Frames], Ids]:
    """A model's call, from array to array."""
    if isinstance(model, Classifier | ClipClassifier):
        return lambda items: model(items).probabilities
    return model
