"""`magvit verify` of a bundle that generates: teacher-forced logits, stamps, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from runtime.reports.html_reading import read_html

from magvit_export.bundle_writer import file_records
from magvit_export.cli.verify import verify
from magvit_runtime import BundleError, Detokenizer, Generator, InputError, open_bundle
from magvit_runtime.bundle.writing import write_manifest


@pytest.fixture
def bundle(ar_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(ar_bundle, tmp_path / "bundle")


def test_both_graphs_of_each_precision_are_stamped(bundle: Path) -> None:
    with pytest.raises(BundleError, match="no parity stamp"):
        Generator.open(bundle, require_parity=True)
    outcome = verify(bundle)
    assert outcome.passed
    assert "PyTorch float64" in outcome.facts["reference"]
    found = {one["subject"]: one for one in outcome.facts["encoders"]}
    assert found.keys() == {"onnxruntime fp32", "onnxruntime int8"}
    assert found["onnxruntime fp32"]["rms"] < 5e-6
    assert found["onnxruntime fp32"]["equal_best_rate"] == 1
    assert 1e-3 < found["onnxruntime int8"]["rms"] < 0.1
    assert 0.8 < found["onnxruntime int8"]["equal_best_rate"] <= 1
    assert open_bundle(bundle).manifest.stamps.keys() == {
        f"{role} onnxruntime {precision}"
        for role in ("context", "subtokens")
        for precision in ("fp32", "int8")
    }
    for precision in ("fp32", "int8"):
        Generator.open(bundle, precision=precision, require_parity=True).close()


def test_its_own_float32_graphs_are_a_reference(bundle: Path) -> None:
    outcome = verify(bundle, role="subtokens", against="fp32")
    assert [one["subject"] for one in outcome.facts["encoders"]] == ["onnxruntime int8"]
    assert outcome.passed


def test_another_bundle_is_a_reference_if_it_generates_the_same(
    bundle: Path, ar_bundle: Path, tiny_bundle: Path
) -> None:
    assert verify(bundle, against=str(ar_bundle)).passed
    with pytest.raises(InputError, match="doesn't generate what"):
        verify(bundle, against=str(tiny_bundle))


def test_a_wrong_weight_is_found_and_costs_the_stamps(bundle: Path) -> None:
    verify(bundle)
    _damage(bundle)
    outcome = verify(bundle)
    assert not outcome.passed
    found = {one["subject"]: one["passed"] for one in outcome.facts["encoders"]}
    assert found == {"onnxruntime fp32": False, "onnxruntime int8": True}
    assert {"context onnxruntime fp32", "subtokens onnxruntime fp32"}.isdisjoint(
        open_bundle(bundle).manifest.stamps
    )


def _damage(bundle: Path) -> None:
    """Exchanges two norms' weights of the first block, and records the new digests."""
    path = bundle / "context.fp32.onnx"
    model = onnx.load(path)
    block = [one for one in model.graph.initializer if "spatial_blocks.0." in one.name]
    first, second = (one for one in block if one.name.endswith("norm.weight"))
    values = numpy_helper.to_array(first), numpy_helper.to_array(second)
    first.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[1]), first.name))
    second.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[0]), second.name))
    data = bundle / "context.fp32.data"
    data.unlink()
    onnx.save(model, path, save_as_external_data=True, location=data.name, size_threshold=256)
    manifest = open_bundle(bundle).manifest
    files = {**manifest.files, **file_records([path, data])}
    write_manifest(bundle, msgspec.structs.replace(manifest, files=files))


def test_the_decoder_is_verified_with_the_first_stages_weights(bundle: Path) -> None:
    outcome = verify(bundle, role="decode")
    assert outcome.passed
    Detokenizer.open(bundle, require_parity=True).close()


def test_the_report_has_a_row_for_each_precision(bundle: Path, tmp_path: Path) -> None:
    verify(bundle, report=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert read_html(text)
    assert "onnxruntime int8" in text
    assert "Divergence" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"against": "golden"}, "there is no reference 'golden'"),
        ({"against": "fp32", "weights": "seeded"}, "only PyTorch takes weights"),
        ({"weights": "seeded:3"}, "aren't the weights"),
        ({"bisect": True}, "only encoders can be bisected"),
        ({"role": "encode"}, "no model of .* has the role 'encode'|has no encode graph"),
    ],
)
def test_what_makes_no_sense_is_refused(
    bundle: Path, options: dict[str, object], words: str
) -> None:
    with pytest.raises((InputError, BundleError), match=words):
        verify(bundle, **options)  # type: ignore[arg-type]
