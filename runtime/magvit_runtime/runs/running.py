"""Makes the parts of a run that aren't done yet, one after another, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import msgspec

from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.errors import InputError
from magvit_runtime.results.folders import Folder
from magvit_runtime.results.journal import Journal, write_part
from magvit_runtime.results.run_records import (
    JournalEntry,
    Manifest,
    RunKind,
    RunRecord,
    Share,
    json_values,
)
from magvit_runtime.runs.inputs import Inputs, names_in_words
from magvit_runtime.runs.parts import ClipOptions, Part, RunReport
from magvit_runtime.tokenizer import Tokenizer
from magvit_runtime.tracing import span

# The bytes of a part's file, its rows, and what is in it.
Content = tuple[bytes, int, msgspec.Struct]


class Encoder(msgspec.Struct, frozen=True):
    """What makes a run's tokens.

    Attributes:
        model: Name of the model.
        weights: Where its weights come from, in words.
        graph_sha256: Digest of the graph, with its weights.
        backend: What runs it.
        precision: What that computes in.
        words: All that `magvit tokenize` says of it.
    """

    model: str
    weights: str
    graph_sha256: str
    backend: str
    precision: str
    words: str

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Encoder:
        """The facts of a tokenizer."""
        facts = tokenizer.capabilities
        model, label = tokenizer.bundle.manifest.model, weights_label(tokenizer.bundle)
        words = (
            f"{model}, {label}; {facts.backend} {facts.version} on {facts.device} ({facts.reason})"
        )
        digest = tokenizer.graph_sha256
        return cls(model, label, digest, facts.backend, facts.precision, words)


def run_record(
    kind: RunKind,
    encoder: Encoder,
    inputs: Inputs,
    share: Share,
    options: ClipOptions,
    graphs: Mapping[str, str] | None = None,
) -> RunRecord:
    """What decides the output of a run; reads all that this job reads, for its digests.

    Args:
        kind: What it makes.
        encoder: Makes the tokens.
        inputs: What is read.
        share: The job's share.
        options: How clips are made.
        graphs: Digests of graphs besides the encoder's.
    """
    return RunRecord(
        kind,
        encoder.model,
        {"encode": encoder.graph_sha256, **(graphs or {})},
        encoder.backend,
        encoder.precision,
        json_values(options.record()),
        inputs.records(share),
        str(share),
    )


def make_parts(
    folder: Folder,
    journal: Journal,
    parts: Iterable[Part],
    encode: Callable[[Part], Content],
    advance: Callable[[int], None],
) -> None:
    """Makes and writes the parts that aren't done.

    Args:
        folder: Where they are written.
        journal: Of the run.
        parts: All parts.
        encode: What makes a part's file.
        advance: Told how many rows were made, or were there.
    """
    for part in parts:
        entry = journal.done.get(part.name)
        if entry is None:
            with span("part", partial(dict, part=part.name)):
                entry = _make_part(folder, journal, part, encode)
        advance(entry.part.rows)


def _make_part(
    folder: Folder, journal: Journal, part: Part, encode: Callable[[Part], Content]
) -> JournalEntry:
    content, rows, info = encode(part)
    journal.begin()
    entry = write_part(folder, part.name, content, rows, info, tuple(part.noted.problems))
    journal.add(entry)
    return entry


def finish(journal: Journal, report: RunReport, inputs: Inputs, share: Share) -> Manifest:
    """Ends a run.

    Raises:
        InputError: Nothing that it read can be used.
    """
    if not journal.done and report.refused:
        first = report.refused[0]
        raise InputError(
            f"none of {len(report.refused)} files can be used: {first.why}",
            found=names_in_words(one.name for one in report.refused),
        )
    if not journal.done and share.jobs == 1:
        raise InputError(f"{inputs.folder.address()} holds no clip")
    return journal.finish(tuple(report.refused))
