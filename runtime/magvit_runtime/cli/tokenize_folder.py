"""`magvit tokenize -o FOLDER`: tokens part by part, in this process or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from magvit_runtime.cli.folder_runs import FolderRun
from magvit_runtime.cli.numbers import MOST, in_range
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.space import with_space
from magvit_runtime.cli.videos import cutting_for
from magvit_runtime.errors import InputError
from magvit_runtime.hardware.packages import is_installed, missing_package
from magvit_runtime.results.run_records import ALL
from magvit_runtime.runs.running import Encoder
from magvit_runtime.runs.tokens import token_part
from magvit_runtime.serving.ray_runs import Worker, encoder_there, ray_cluster
from magvit_runtime.tokenizer import Tokenizer


@dataclass(frozen=True)
class ClusterOptions:
    """Which processes make a folder.

    Attributes:
        ray: Make it with Ray Data: on the cluster that RAY_ADDRESS names, or on this machine's
            cores.
        workers: How many of Ray's actors; as many as there is room for by default.
        cpus_per_worker: CPUs of each; may be a fraction.
        gpus_per_worker: GPUs of each; may be a fraction.
    """

    ray: bool = False
    workers: int | None = None
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0

    def checked(self) -> ClusterOptions:
        """These options.

        Raises:
            InputError: A number is out of range, or only Ray takes it.
            MissingPackageError: Ray isn't installed.
        """
        if self.ray and not is_installed("ray"):
            raise missing_package("ray", "--ray")
        if self.workers is not None:
            in_range("workers", self.workers, 1)
        for name in ("cpus_per_worker", "gpus_per_worker"):
            if not 0 <= getattr(self, name) <= MOST:
                raise InputError(f"{name} is out of range", found=getattr(self, name))
        if not self.ray and self != DEFAULT_CLUSTER:
            raise InputError("workers are Ray's", mend="pass --ray")
        return self


DEFAULT_CLUSTER = ClusterOptions()


def tokenize_folder(
    run: FolderRun, bundle: Path, opening: Mapping[str, Any], cluster: ClusterOptions
) -> Outcome:
    """Writes a folder of tokens, or this job's share of it.

    Args:
        run: The run.
        bundle: Directory of the exported model.
        opening: Options of `Tokenizer.open`.
        cluster: Which processes do the work.
    """
    if cluster.ray:
        return _with_ray(run, bundle, opening, cluster)
    return _here(run, bundle, opening)


def _here(run: FolderRun, bundle: Path, opening: Mapping[str, Any]) -> Outcome:
    with Tokenizer.open(bundle, **opening) as tokenizer:
        cutting = cutting_for(run.options.cutting.tail, tokenizer)
        run = replace(run, options=replace(run.options, cutting=cutting))
        tail = cutting.tail if run.inputs.kind == "video" else None
        encoder = Encoder.of(tokenizer)
        journal = run.open_journal("tokens", encoder)
        there = len(journal.done)
        if not journal.is_finished:
            run.make(journal, lambda part: token_part(part, tokenizer, tail))
            run.finish(journal)
    outcome = run.outcome(journal, there, encoder, "clips")
    return with_space(outcome, run.options.cameras, run.read_report(journal))


def _with_ray(
    run: FolderRun, bundle: Path, opening: Mapping[str, Any], options: ClusterOptions
) -> Outcome:
    if run.share != ALL:
        raise InputError("a cluster shares the work by itself", mend="leave out --shard or --ray")
    worker = Worker(bundle.absolute(), opening, options.cpus_per_worker, options.gpus_per_worker)
    with ray_cluster() as ray:
        encoder = encoder_there(ray, worker)
        journal = run.open_journal("tokens", encoder)
        there = len(journal.done)
        if not journal.is_finished:
            run.make_with_ray(ray, journal, encoder, worker, options.workers)
            run.finish(journal)
    outcome = run.outcome(journal, there, encoder, "clips")
    return with_space(outcome, run.options.cameras, run.read_report(journal))
