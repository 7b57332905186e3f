"""What commands that write a folder in parts share: options, the run, and what they say."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from magvit_runtime.cli.numbers import in_range
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.cli.space import SpaceOptions, refuse_space
from magvit_runtime.clips.trajectories import ReadReport
from magvit_runtime.errors import InputError
from magvit_runtime.results.folders import Folder, open_folder
from magvit_runtime.results.journal import Journal
from magvit_runtime.results.run_records import ALL, RunKind, Share
from magvit_runtime.results.token_table import import_pyarrow
from magvit_runtime.runs.inputs import Inputs, check_apart, find_inputs, names_in_words
from magvit_runtime.runs.parts import ClipOptions, Part, RunReport, run_parts
from magvit_runtime.runs.running import Content, Encoder, finish, make_parts, run_record
from magvit_runtime.serving.ray_runs import Worker, make_parts_with_ray


@dataclass(frozen=True)
class RunOptions:
    """How a folder is written.

    Attributes:
        resume: Go on with a run that was stopped; begin one where there is none. Refused where an
            input, the bundle or an option isn't as it was.
        shard: One job's share of the work, as 0/4 to 3/4 of four; all write to one folder.
        part_size: Clips of a part: what a killed run loses at most.
    """

    resume: bool = False
    shard: str | None = None
    part_size: int = 128


DEFAULT_RUN = RunOptions()


def refuse_run(options: object, defaults: object) -> None:
    """Refuses options that only a folder takes.

    Raises:
        InputError: There are any.
    """
    given = [name for name, value in vars(options).items() if value != getattr(defaults, name)]
    if given:
        raise InputError(
            "a single file is written at once",
            found=", ".join(f"--{name.replace('_', '-')}" for name in given),
            mend="give a folder as -o, whose name has no ending",
        )


@dataclass(frozen=True)
class FolderRun:
    """A run that writes a folder.

    Attributes:
        inputs: What it reads.
        folder: Where it writes.
        share: This job's share.
        options: How clips are made.
        resume: Whether it may go on with what is there.
        report: What it met in its inputs, filled while it runs.
    """

    inputs: Inputs
    folder: Folder
    share: Share
    options: ClipOptions
    resume: bool
    report: RunReport = dataclasses.field(default_factory=RunReport)

    def open_journal(
        self, kind: RunKind, encoder: Encoder, graphs: Mapping[str, str] | None = None
    ) -> Journal:
        """Begins it, or goes on with it."""
        record = run_record(kind, encoder, self.inputs, self.share, self.options, graphs)
        return Journal.open(self.folder, record, resume=self.resume)

    def make(self, journal: Journal, encode: Callable[[Part], Content]) -> None:
        """Makes all parts in this process."""
        with progress_bar("clips") as advance:
            parts = run_parts(self.inputs, self.share, self.options, self.report)
            make_parts(self.folder, journal, parts, encode, advance)

    def make_with_ray(
        self, ray: Any, journal: Journal, encoder: Encoder, worker: Worker, workers: int | None
    ) -> None:
        """Makes all parts on a cluster."""
        with progress_bar("clips") as advance:
            read = make_parts_with_ray(
                ray,
                self.inputs,
                self.options,
                self.folder,
                journal,
                encoder,
                worker,
                workers,
                advance,
            )
        self.report.trajectories.update(read.trajectories)
        self.report.refused.extend(read.refused)

    def finish(self, journal: Journal) -> None:
        """Writes the manifest."""
        finish(journal, self.report, self.inputs, self.share)

    def outcome(self, journal: Journal, there: int, encoder: Encoder, items: str) -> Outcome:
        """What was done.

        Args:
            journal: Of the run.
            there: How many parts were there before.
            encoder: Made the tokens.
            items: What a row is: clips.
        """
        rows = sum(entry.part.rows for entry in journal.done.values())
        read = self.read_report(journal)
        facts = {
            "clips": rows,
            "output": self.folder.address(),
            "parts": len(journal.done),
            "parts_there_before": there,
            "shard": str(self.share),
            "weights": encoder.weights,
            "backend": encoder.backend,
            "precision": encoder.precision,
            "problems": self._problems(journal),
            "refused": msgspec.to_builtins(self.report.refused),
            "left_out": list(self.inputs.left_out),
        }
        text = f"{rows} {items} in {len(journal.done)} parts -> {self.folder.address()}"
        if there:
            text += f"\n{there} of the parts were there before"
        text += f"\n{encoder.words}"
        if read.counts:
            text += f"\n{read.summary()}"
        for name, video in self.report.videos.items():
            if self.inputs.kind == "video" and (video.left_out or video.repeated or video.problems):
                text += f"\n{name}: {video.summary()}"
        for one in self.report.refused:
            text += f"\nnot read, or not to its end: {one.why}"
        if self.inputs.left_out:
            text += (
                f"\nleft out, as of no kind that is read: {names_in_words(self.inputs.left_out)}"
            )
        return Outcome(facts, text)

    def read_report(self, journal: Journal) -> ReadReport:
        """What was met in all files of trajectories, and while they were drawn."""
        total = ReadReport()
        for one in self.report.trajectories.values():
            total.trajectories += one.trajectories
            total.counts += one.counts
            total.kinds += one.kinds
            total.boxes_from = total.boxes_from or one.boxes_from
        if self.report.trajectories:
            noted = (problem for entry in journal.done.values() for problem in entry.noted)
            total.counts += Counter((one.action, one.problem) for one in noted)
        return total

    def _problems(self, journal: Journal) -> list[dict[str, Any]]:
        read = [
            {"file": name, **dataclasses.asdict(problem)}
            for name, one in self.report.trajectories.items()
            for problem in one.problems
        ]
        drawn = [
            dataclasses.asdict(problem)
            for entry in journal.done.values()
            for problem in entry.noted
        ]
        return [*read, *drawn][: ReadReport.KEPT_PROBLEMS]


def folder_run(
    bundle: Path,
    source: Path | str,
    output: Path | str,
    options: ClipOptions,
    run: RunOptions,
    space: SpaceOptions,
) -> FolderRun:
    """Looks at what is to be read and written; writes nothing yet.

    Raises:
        InputError: It can't be read or written, or an option doesn't fit it.
        MissingPackageError: pyarrow isn't installed.
    """
    import_pyarrow()  # Before anything is written.
    in_range("part_size", run.part_size, 1)
    share = ALL if run.shard is None else Share.parse(run.shard)
    for place in (source, bundle):
        check_apart(place, output)
    inputs = find_inputs(source)
    if inputs.kind != "trajectories":
        refuse_space(source, space)
    options = dataclasses.replace(options, part_size=run.part_size)
    return FolderRun(inputs, open_folder(output), share, options, run.resume)
