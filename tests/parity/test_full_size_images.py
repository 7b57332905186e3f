"""Image tokenizers of every size at their full resolution, seeded: native beside ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from magvit_export.catalog import CATALOG, CatalogEntry
from magvit_export.exporting import export_model
from magvit_export.families.family import find_family
from magvit_runtime.agreement.comparison import new_comparison
from magvit_runtime.backends.opening import open_role
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.quantizers.vocabulary import check_ids, vocabulary_size

IMAGES = [
    entry for entry in CATALOG if entry.family in ("ibq", "magvit") and "images" in entry.summary
]
# Pretrained models mostly have the architectures of others.
SIZES = list({str(entry.config): entry for entry in reversed(IMAGES)}.values())
# The others differ from these in the size of the codebook, the bits or the resolution.
IN_CI: dict[Role, str] = {"encode": "ibq-1024", "decode": "open-magvit2-image-256"}
CASES = [
    pytest.param(
        entry,
        role,
        marks=[] if entry.name == IN_CI[role] else [pytest.mark.nightly],
        id=f"{entry.name}-{role}",
    )
    for entry in SIZES
    for role in IN_CI
]


def test_the_sizes_are_those_that_are_published() -> None:
    names = {entry.name for entry in IMAGES}
    assert {name.partition("-")[0] for name in names} == {"ibq", "open"}
    assert len(names) == 10
    assert {entry.config for entry in SIZES} == {entry.config for entry in IMAGES}
    assert set(IN_CI.values()) <= {entry.name for entry in SIZES}


@pytest.mark.full_size
@pytest.mark.slow
@pytest.mark.parametrize(("entry", "role"), CASES)
def test_the_native_backend_agrees_with_onnxruntime(
    entry: CatalogEntry, role: Role, tmp_path: Path
) -> None:
    bundle = export_model(entry, tmp_path / "bundle", weights="seeded", roles=[role])
    quantizer = bundle.tokens.quantizer
    nominal = find_family(entry.family).roles["encode"].nominal(entry.config)
    random = np.random.default_rng(0)
    if role == "encode":
        shape = (1, nominal.height, nominal.width, 3)
        given = {"frames": random.integers(0, 256, shape, np.uint8)}
    else:
        given = {"ids": random.integers(0, vocabulary_size(quantizer), (1, 16, 16), np.int32)}
    found = {}
    for backend in ("native", "onnxruntime"):
        graph, session = open_role(bundle, role, backend=backend, threads=2)
        comparison = new_comparison(graph)
        names = [graph.output_of(kind).name for kind in comparison.kinds]
        with session:
            results = session.run(given, names)
        found[backend] = dict(zip(comparison.kinds, results, strict=True))
    if role == "encode":
        ids = found["native"]["ids"]
        assert ids.shape == (1, 16, 16)
        check_ids("ids", ids, quantizer)
        # Of many codes, many are used.
        assert len(np.unique(ids)) > 20
    comparison.add(found["native"], found["onnxruntime"], ["noise"])
    agreement = comparison.result()
    assert agreement.passes("fp32"), agreement.summary
