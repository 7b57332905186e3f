"""Verifies models on seeded weights; docs/models.md and `magvit models` show what it found.

    python docs/measure/verify_models.py [MODEL ...] [--roles encode,decode,features]
    python docs/measure/verify_models.py --smoke

Does what `magvit verify --batch-sizes 1` does, for each role in fp32 and fp16 at the size that the
model is made for, with ONNX Runtime and the native backend. Each role's verdicts are kept in
export/magvit_export/data/model_verdicts.json as soon as it is done; models_page.py puts them into
the docs. The released sizes take minutes a role. `--smoke` writes nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import magvit_export
from magvit_export.catalog import CatalogEntry, all_models, find_model
from magvit_export.exporting import export_model
from magvit_export.families.family import find_family
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.model_records import (
    VERDICTS_FILE,
    RecordedVerdict,
    record_text,
    recorded_verdicts,
)
from magvit_export.model_tables import BACKENDS, PRECISIONS
from magvit_export.verification.clips import movement_clips
from magvit_export.verification.references import find_reference
from magvit_runtime.backends.backend import Unfit
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.benchmarks.machine import describe_machine
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import open_bundle
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.verification.verifying import Verdict, verify_bundle

RECORD = Path(magvit_export.__file__).parent / "data" / VERDICTS_FILE


def verify_role(entry: CatalogEntry, role: Role, folder: Path) -> list[RecordedVerdict]:
    """Exports a role in each precision and verifies it; the folder keeps the bundle."""
    assert entry.config is not None
    sizes = replace(find_family(entry.family).roles[role].nominal(entry.config), batch=None)
    for precision in PRECISIONS:
        export_model(
            entry, folder, weights="seeded", roles=[role], precision=precision, sizes=sizes
        )
    bundle = open_bundle(folder)
    result = verify_bundle(
        bundle,
        find_reference(bundle, "pytorch", None, role),
        role=role,
        extra=None if role == "decode" else movement_clips,
        batch_sizes=[1],
    )
    here = describe_machine()
    found = {(one.precision, one.backend): told(one) for one in result.verdicts}
    for unfit in list_candidates(bundle, role).unfit:
        found.setdefault((unfit.precision, unfit.backend), told(unfit))
    return [
        RecordedVerdict(
            entry.name,
            role,
            precision,
            backend,
            *found[precision, backend],
            reference=result.reference,
            machine=f"{here.cpu}, {here.cpus} CPUs, {here.system}",
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            versions=here.versions,
        )
        for precision in PRECISIONS
        for backend in BACKENDS
        if (precision, backend) in found
    ]


def told(verdict: Verdict | Unfit) -> tuple[str, str]:
    """A verdict in one word, and what was measured or what speaks against it."""
    if isinstance(verdict, Unfit) or not verdict.runs:
        return "unfit", verdict.why
    if verdict.agreement is None:
        return "failed", verdict.why
    return "agrees" if verdict.passed else "disagrees", verdict.agreement.summary


def keep(verdicts: Iterable[RecordedVerdict]) -> None:
    """Puts verdicts into the record, in the catalog's order, over older ones of the same."""
    kept = {one.subject: one for one in (*recorded_verdicts(), *verdicts)}
    order = [entry.name for entry in all_models()]
    with atomic_path(RECORD) as partial:
        rows = sorted(kept.values(), key=lambda one: order.index(one.model))
        partial.write_text(record_text(rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--roles", default="encode,decode")
    parser.add_argument("--smoke", action="store_true", help="a tiny model; writes nothing")
    options = parser.parse_args()
    entries = [find_model(name) for name in options.models] or list(all_models())
    if options.smoke:
        tiny = TokenizerConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1, resolution=32, dims=2)
        entries = [replace(find_model("open-magvit2-image-128"), config=tiny)]
    for entry in entries:
        if entry.config is None:
            continue
        for role in find_family(entry.family).roles:
            if role not in options.roles.split(","):
                continue
            with TemporaryDirectory() as folder:
                verdicts = verify_role(entry, role, Path(folder) / "bundle")
            if not options.smoke:
                keep(verdicts)
            for one in verdicts:
                print(f"{' '.join(one.subject)}: {one.verdict}; {one.detail}", flush=True)


if __name__ == "__main__":
    main()
