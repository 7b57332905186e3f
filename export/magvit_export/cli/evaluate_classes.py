"""`magvit evaluate classes`: ways to tell classes apart, compared on the same trajectories."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import msgspec
from cyclopts import Parameter

from magvit_export.evaluation.class_options import (
    DEFAULT_GENERATED,
    DEFAULT_METHODS,
    GENERATED,
    LIBRAS,
    GeneratedOptions,
    MethodOptions,
)
from magvit_runtime.cli.columns import ColumnNames
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.cli.space import DEFAULT_SPACE, SpaceOptions, with_space
from magvit_runtime.clips.trajectories import DEFAULT_STYLE, ReadReport, StyleOptions
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.files.outputs import check_outputs


def classes(
    data: str,
    *,
    tokenizer: list[str] | None = None,
    features: list[str] | None = None,
    methods: Annotated[MethodOptions, Parameter(name="*")] = DEFAULT_METHODS,
    ensemble: list[str] | None = None,
    folds: int = 5,
    repeats: int = 1,
    generated: Annotated[GeneratedOptions, Parameter(name="*")] = DEFAULT_GENERATED,
    group: str | None = None,
    style: Annotated[StyleOptions, Parameter(name="*")] = DEFAULT_STYLE,
    columns: ColumnNames | None = None,
    space: Annotated[SpaceOptions, Parameter(name="*")] = DEFAULT_SPACE,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    markdown: Path | None = None,
    report: Path | None = None,
) -> Outcome:
    """Says what tokens are worth: classifiers of tokens, features and coordinates, side by side.

    All rows see the same splits, and each is set beside the first in pairs of clips.
    docs/accuracy.md says what each figure is. Tokens and features are kept in MAGVIT_CACHE_DIR.

    Args:
        data: libras, the movements that ship with the package; generated, trajectories of known
            kinds; or a file of labelled trajectories, as `magvit train classifier` takes it.
        tokenizer: NAME=WHAT, several times: WHAT is a bundle, or weights (a checkpoint, hub,
            trained, seeded or seeded:N) of the model NAME or else of trajectory-small. By default
            random=seeded, and trained=trained where those ship with the package.
        features: NAME=WHAT, several times, likewise: videomae-base=seeded, clip=BUNDLE.
        methods: How classifiers are trained.
        ensemble: Names of rows with " + " between them, several times: the mean of their
            probabilities. By default the last row of tokens and the net on coordinates.
        folds: Stratified parts of libras or a file, each predicted by what the others teach.
        repeats: Times of that, each with other parts.
        generated: What is generated.
        group: Column of a file whose values, as of people, are never on both sides of a split.
        style: How trajectories are drawn.
        columns: Names of a text table's columns, where it has no header, such as frame,id,x,y.
        space: What the columns of a file are, and what sees trajectories in space.
        output: JSON file of all figures, also by class and by trajectory.
        markdown: The tables in Markdown.
        report: HTML page of tables and plots to write.
    """
    from magvit_export.evaluation.class_evaluation import (
        Contestants,
        compare_by_folds,
        compare_by_size,
    )
    from magvit_export.evaluation.labelled import labelled_file, libras
    from magvit_export.evaluation.model_choice import choose_model, default_tokenizers
    from magvit_export.training.drawn_clips import Look
    from magvit_runtime.benchmarks.machine import describe_machine
    from magvit_runtime.evaluation.class_results import SCHEMA_VERSION, ClassEvaluation
    from magvit_runtime.evaluation.class_tables import tables_of
    from magvit_runtime.reports import check_report_packages

    source = None if data in (LIBRAS, GENERATED) else Path(data)
    _check_given(data, group, columns, space, generated)
    if report is not None:
        check_report_packages()
    check_outputs(output, markdown, report, inputs=(source, space.camera))
    texts = tokenizer or default_tokenizers()
    cameras, drawn, read = space.cameras(), style.checked(), ReadReport()
    begun = time.perf_counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        bar = stack.enter_context(ExitStack())

        def begin(what: str, total: int) -> Callable[[int], None]:
            bar.close()  # A terminal shows one at a time.
            return bar.enter_context(progress_bar(what, total))

        contestants = Contestants(
            tuple(choose_model(text, "encode", folder / f"t{i}") for i, text in enumerate(texts)),
            tuple(
                choose_model(text, "features", folder / f"f{i}")
                for i, text in enumerate(features or ())
            ),
            methods,
            None if ensemble is None else tuple(ensemble),
        )
        if data == GENERATED:
            found = compare_by_size(generated, contestants, drawn, cameras, begin)
        else:
            labelled = (
                libras(drawn)
                if source is None
                else labelled_file(
                    source,
                    Look(style, space.positions or "auto", cameras, columns or ()),
                    read,
                    group,
                )
            )
            found = [compare_by_folds(labelled, contestants, folds, repeats, begin)]
    result = ClassEvaluation(
        SCHEMA_VERSION,
        " ".join(["magvit", *sys.argv[1:]]),
        datetime.now(UTC).isoformat(timespec="seconds"),
        msgspec.to_builtins(describe_machine()),
        asdict(methods) | (asdict(generated) if data == GENERATED else {}),
        round(time.perf_counter() - begun, 1),
        found,
    )
    tables = tables_of(found)
    if output is not None:
        with atomic_path(output) as partial:
            partial.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    if markdown is not None:
        with atomic_path(markdown) as partial:
            partial.write_text("\n".join(table.markdown() for table in tables), encoding="utf-8")
    if report is not None:
        from magvit_runtime.reports.class_report import class_report

        with atomic_path(report) as partial:
            partial.write_text(class_report(result), "utf-8", "backslashreplace")
    text = "\n\n".join(table.text() for table in tables)
    if read.counts:
        text += "\n" + read.summary()
    return with_space(Outcome(msgspec.to_builtins(result), text), cameras, read)


def _check_given(
    data: str,
    group: str | None,
    columns: ColumnNames | None,
    space: SpaceOptions,
    generated: GeneratedOptions,
) -> None:
    """Refuses options that the data have no use for.

    Raises:
        InputError: There are any.
    """
    of_file: dict[str, object] = {
        "--group": group,
        "--columns": columns,
        "--positions": space.positions,
    }
    of_cameras = {"--camera": space.camera, "--up": space.up, "--views": space.views}
    of_kinds = {"options of what is generated": None if generated == DEFAULT_GENERATED else 1}
    useless: dict[str, object] = dict(of_kinds)
    if data == LIBRAS:
        useless |= of_file | of_cameras
    elif data == GENERATED:
        useless = {**of_file}
    if given := [name for name, value in useless.items() if value is not None]:
        raise InputError(f"{data} has no use for some options", found=", ".join(given))
