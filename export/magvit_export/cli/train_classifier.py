"""`magvit train classifier`: from trajectories, tokens or features to a classifier in a bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from magvit_export.training.options import DEFAULT_OPTIONS, TrainingOptions
from magvit_runtime.bundle.reading import MANIFEST_NAME, open_bundle
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.classifier import CLASSIFIER
from magvit_runtime.cli.columns import ColumnNames
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import OwnBundle
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.cli.space import DEFAULT_SPACE, SpaceOptions, with_space
from magvit_runtime.clips.trajectories import (
    DEFAULT_STYLE,
    ReadReport,
    StyleOptions,
    is_trajectory_file,
)
from magvit_runtime.errors import InputError
from magvit_runtime.files.outputs import check_outputs

if TYPE_CHECKING:
    from magvit_export.training.classifier_training import TrainingResult


def classifier(
    source: OwnBundle,
    *files: Path,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    options: Annotated[TrainingOptions, Parameter(name="*")] = DEFAULT_OPTIONS,
    metrics: Path | None = None,
    report: Path | None = None,
    style: Annotated[StyleOptions, Parameter(name="*")] = DEFAULT_STYLE,
    columns: ColumnNames | None = None,
    space: Annotated[SpaceOptions, Parameter(name="*")] = DEFAULT_SPACE,
    group: str | None = None,
    augment: int | None = None,
    model: str | None = None,
    weights: str | None = None,
    config: Path | None = None,
    fine_tune: bool = False,
    fine_tune_epochs: int = 3,
    fine_tune_rate: float = 1e-4,
    backend: str = "auto",
) -> Outcome:
    """Trains a classifier, measures it, and exports it into a bundle.

    Two ways: `magvit train classifier trajectories.csv -o BUNDLE` draws and tokenizes a file of
    labelled trajectories itself; `magvit train classifier BUNDLE TOKENS.parquet FEATURES.parquet …`
    takes what `magvit tokenize` and `magvit features` wrote, one file or several of the same clips.

    Args:
        source: Trajectories with labels (CSV and its like, JSON, Parquet or npz); or the bundle of
            the model that made the tokens or features.
        files: Files of tokens and features with labels, after a bundle.
        output: The bundle, where trajectories are given. One that is there keeps its tokenizer;
            otherwise one is exported.
        options: How the classifier is trained.
        metrics: JSON file of all figures; BUNDLE.metrics.json by default.
        report: HTML page of the confusion matrix to write besides.
        style: How trajectories are drawn.
        columns: Names of a text table's columns, where it has no header, such as frame,id,x,y.
        space: What the columns are, and what sees trajectories in space.
        group: Column of the trajectory file whose values, as of people, are never on both sides
            of a split.
        augment: Varied copies of each trajectory to train on besides: turned, scaled, sheared,
            shaken, faster here and slower there. By default 12, or as many as make no more than
            5,000 clips; none with --fine-tune.
        model: Tokenizer of a new bundle; trajectory-small by default.
        weights: Its weights: path of a checkpoint, hub, trained, seeded or seeded:N. By default
            those that ship with the package (trained), or seeded ones where none do.
        config: JSON or YAML file with what differs from the model's architecture.
        fine_tune: Trains the encoder too, through the signs that are its tokens, before the
            classifier. Seconds a clip and epoch on a CPU.
        fine_tune_epochs: Passes over the training trajectories; the best one is kept.
        fine_tune_rate: Learning rate of fine-tuning.
        backend: What runs the tokenizer; auto takes the best of this machine.
    """
    given = {
        "--output": output,
        "--group": group,
        "--augment": augment or None,
        "--model": model,
        "--weights": weights,
        "--config": config,
        "--fine-tune": fine_tune or None,
        "--columns": columns,
        "options of drawing": None if style == DEFAULT_STYLE else style,
        "options of cameras": None if space == DEFAULT_SPACE else space,
    }
    if (augment or 0) < 0:
        raise InputError("--augment is out of range", found=augment, expected="0 or more")
    if source.is_dir():
        return _from_files(source, files, options, metrics, report, given)
    if files or output is None or not is_trajectory_file(source):
        raise InputError(
            f"{source} is no bundle",
            mend="magvit train classifier TRAJECTORIES.csv -o BUNDLE, or magvit train classifier "
            "BUNDLE TOKENS.parquet",
        )

    from magvit_export.catalog import find_model
    from magvit_export.families.family import find_family, read_config
    from magvit_export.training.drawn_clips import Look
    from magvit_export.training.fine_tuning import FineTuneOptions
    from magvit_export.training.whole_way import MODEL, TokenizerChoice, train_on_trajectories

    metrics = metrics or _beside(output)
    checkpoint = None if weights is None else Path(weights)
    check_outputs(
        output / MANIFEST_NAME, metrics, report, inputs=(source, space.camera, config, checkpoint)
    )
    _check_report(report, options)
    entry = find_model(model or MODEL)
    chosen = None
    if config is not None:
        chosen = read_config(config, find_family(entry.family).config, entry.config)
    cameras = space.cameras()
    read = ReadReport()
    with progress_bar("clips") as advance:
        result, tuned = train_on_trajectories(
            source,
            output,
            Look(style, space.positions or "auto", cameras, columns or ()),
            options,
            report=read,
            choice=TokenizerChoice(entry.name, weights),
            config=chosen,
            how=FineTuneOptions(fine_tune, fine_tune_epochs, fine_tune_rate),
            group=group,
            copies=augment,
            backend=backend,
            advance=advance,
        )
    outcome = _outcome(output, result, options, metrics, report, str(source), ())
    facts: dict[str, Any] = {"problems": [asdict(problem) for problem in read.problems]}
    text = outcome.text
    if tuned is not None:
        facts["fine_tuning"] = asdict(tuned)
        text += (
            f"\nfine-tuned: epoch {tuned.epoch} of {fine_tune_epochs} kept, validation loss "
            f"{tuned.losses[0]:.3f} -> {tuned.losses[tuned.epoch]:.3f}"
        )
    if read.counts:
        text += "\n" + read.summary()
    return with_space(Outcome(outcome.facts | facts, text), cameras, read)


def _from_files(
    bundle: Path,
    files: tuple[Path, ...],
    options: TrainingOptions,
    metrics: Path | None,
    report: Path | None,
    given: dict[str, Any],
) -> Outcome:
    if not files:
        raise InputError(
            f"there is nothing to train on beside {bundle}",
            mend=f"magvit train classifier {bundle} TOKENS.parquet",
        )
    if alien := [name for name, value in given.items() if value is not None]:
        raise InputError(
            "tokens and features are taken as they are",
            found=", ".join(alien),
            mend="leave these out, or train on trajectories: magvit train classifier "
            "TRAJECTORIES.csv -o BUNDLE",
        )

    from magvit_export.training.classifier_export import written_files
    from magvit_export.training.classifier_training import train_classifier
    from magvit_export.training.inputs import join_tables, read_table

    metrics = metrics or _beside(bundle)
    written = (bundle / name for name in written_files(open_bundle(bundle)))
    check_outputs(*written, metrics, report, inputs=files)
    _check_report(report, options)
    clips = join_tables([read_table(path) for path in files], [str(path) for path in files])
    result = train_classifier(bundle, clips, options)
    sources = ", ".join(map(str, files))
    return _outcome(bundle, result, options, metrics, report, sources, clips.notes)


def _outcome(
    path: Path,
    result: TrainingResult,
    options: TrainingOptions,
    metrics: Path,
    report: Path | None,
    sources: str,
    notes: tuple[str, ...],
) -> Outcome:
    from magvit_export.training.metrics_files import write_confusion_page, write_metrics

    bundle = open_bundle(path)
    label = weights_label(bundle)
    training = bundle.manifest.heads[CLASSIFIER].training
    head = f"{training['head']} head"
    if "varied_clips" in training:
        head += ", trained on varied copies of each trajectory too"
    known = {"bundle": str(path), "sources": sources, "weights": label, "notes": notes}
    write_metrics(metrics, result, options, known)
    facts: dict[str, Any] = {
        **known,
        "classes": list(result.classes),
        "head": training["head"],
        "clips": len(result.train),
        "held_out_clips": len(result.held_out),
        "train_accuracy": result.train_accuracy,
        "held_out_accuracy": None if result.folds else result.held_out_accuracy,
        "folds": list(result.folds),
        "metrics": str(metrics),
    }
    lines = [
        f"{len(result.classes)} classes, trained on {len(result.train)} clips -> {path}",
        f"accuracy {result.train_accuracy:.1%} on those",
    ]
    if (measures := result.measures) is not None:
        low, high = measures.interval
        facts["accuracy"], facts["interval"] = measures.accuracy, measures.interval
        facts["macro_f1"] = measures.macro_f1
        what = f"in {len(result.folds)} folds" if result.folds else "held out"
        lines[-1] += (
            f", {measures.accuracy:.1%} on {measures.trajectories} {what} "
            f"(95 % interval {low:.1%} to {high:.1%}), macro F1 {measures.macro_f1:.1%}"
        )
        if report is not None:
            write_confusion_page(
                report, result, {"bundle": str(path), "sources": sources, "weights": label}
            )
            facts["report"] = str(report)
    lines += [head, f"{bundle.manifest.model}, {label}", *notes, f"figures -> {metrics}"]
    if report is not None:
        lines.append(f"report -> {report}")
    return Outcome(facts, "\n".join(lines))


def _beside(bundle: Path) -> Path:
    place = bundle.absolute()
    return place.with_name(f"{place.name}.metrics.json")


def _check_report(report: Path | None, options: TrainingOptions) -> None:
    if report is None:
        return
    if not options.folds and not options.share:
        raise InputError(
            "a report shows what was held out", found="--holdout 0", mend="leave --report out"
        )
    from magvit_runtime.reports import check_report_packages

    check_report_packages()
