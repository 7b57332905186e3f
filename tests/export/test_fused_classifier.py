"""One graph from clips to classes, beside the encoder and the classifier that it is made of."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from seeded_checkpoints import FIRST_STAGE, TINY

from magvit_export.catalog import find_model
from magvit_export.exporting import export_model
from magvit_export.families.family import ClipSizes
from magvit_export.training.classifier import TrajectoryClassifier, signs_of
from magvit_export.training.classifier_export import export_classifier
from magvit_export.training.conv_head import ConvHead
from magvit_export.verification.references import find_reference
from magvit_runtime import Classifier, ClipClassifier, Tokenizer, open_bundle
from magvit_runtime.backends.candidates import list_candidates
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.writing import write_manifest
from magvit_runtime.cli.classify_way import why_tokens
from magvit_runtime.errors import BundleError, InputError
from magvit_runtime.results.token_files import token_file_info
from magvit_runtime.verification.verifying import verify_bundle

PRESET = find_model("trajectory-small")
GRID, CLIP = (3, 8, 8), (3, 16, 16, 3)
CLASSES = ("circle", "line", "zigzag")


def clips(count: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def train(bundle: Bundle, head: torch.nn.Module, *grid: int) -> None:
    info = token_file_info(bundle, grid)
    export_classifier(bundle, head.eval(), CLASSES, info, "bits", {})


def seeded(head: torch.nn.Module) -> torch.nn.Module:
    """A head whose classes of noise differ, none of them sure."""
    generator = torch.Generator().manual_seed(1)
    for parameter in head.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    return head


class SmallConvHead(torch.nn.Module):
    """A conv head of images of 8 x 12 tokens, as small as the encoder of this test."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv3d(18, 4, 3, (1, 2, 2), padding=1)
        self.head = torch.nn.Linear(4 * 4 * 6, len(CLASSES))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        maps = self.conv(signs_of(ids, 18).movedim(-1, 1).unsqueeze(2)).relu()
        return self.head(maps.flatten(1))


def linear(*grid: int) -> torch.nn.Module:
    return seeded(TrajectoryClassifier(2**18, num_classes=len(CLASSES), grid=grid))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a linear classifier that was there before the fp16 encoder."""
    path = tmp_path_factory.mktemp("fused") / "bundle"
    bundle = export_model(PRESET, path, weights="seeded", roles=["encode"], config=TINY)
    train(bundle, linear(*GRID), *GRID)
    export_model(PRESET, path, weights="seeded", roles=["encode"], config=TINY, precision="fp16")
    return path


@pytest.fixture
def bundle(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "bundle"))


@pytest.mark.parametrize(
    ("backend", "precision"),
    [("native", "fp32"), ("onnxruntime", "fp32"), ("onnxruntime", "fp16")],
)
def test_it_gives_what_the_two_steps_give(trained: Path, backend: str, precision: str) -> None:
    given = clips(5, *CLIP)
    options = {"backend": backend, "precision": precision}
    with Tokenizer.open(trained, **options) as tokenizer, Classifier.open(trained) as classifier:
        expected = classifier(tokenizer(given))
    with ClipClassifier.open(trained, batch_size=2, **options) as fused:
        found = fused(given)
        assert fused.capabilities.backend == backend
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-5, atol=1e-7)
    assert found.labels == expected.labels
    assert found.classes == CLASSES
    # Clips differ, and no class is sure, so equal probabilities say something.
    assert np.ptp(found.probabilities, axis=0).min() > 0.05
    assert found.probabilities.max() < 0.99


def test_its_weights_are_those_of_the_two(trained: Path) -> None:
    opened = open_bundle(trained)
    assert set(opened.graphs("classify-clips")) == {"fp32", "fp16"}
    for precision, graph in opened.graphs("classify-clips").items():
        assert graph.data == (f"encode.{precision}.data", "classify.fp32.data")
        assert opened.manifest.files[graph.file].size < 50_000
        assert graph.inputs[0].shape == ("batch", *CLIP)
        encoder = opened.graphs("encode")[precision]
        assert (graph.operators, graph.preprocessing) == (encoder.operators, encoder.preprocessing)


def test_images_have_one_too(tmp_path: Path) -> None:
    image_model = find_model("open-magvit2-image-128")
    opened = export_model(
        image_model, tmp_path, weights="seeded", roles=["encode"], config=FIRST_STAGE
    )
    with pytest.raises(InputError, match="computes too much beside the encoder"):
        train(opened, ConvHead(2**18, num_classes=3, grid=(8, 12)), 8, 12)
    train(opened, seeded(SmallConvHead()), 8, 12)
    given = clips(3, 16, 24, 3)
    results = []
    for backend in ("native", "onnxruntime"):
        with Tokenizer.open(tmp_path, backend=backend) as tokenizer:
            ids = tokenizer(given)
        with Classifier.open(tmp_path, backend=backend) as classifier:
            results.append(classifier(ids).probabilities)
        with ClipClassifier.open(tmp_path, backend=backend) as fused:
            results.append(fused(given).probabilities)
    for found in results[1:]:
        np.testing.assert_allclose(found, results[0], rtol=1e-4, atol=1e-6)


def test_drawn_clips_decide_its_size_where_they_are_known(bundle: Path) -> None:
    """Five frames and six make three tokens of a stride of two: only the drawing says which."""
    opened = open_bundle(bundle)
    tokens = msgspec.structs.replace(opened.tokens, temporal_stride=2)
    changed = Bundle(bundle, msgspec.structs.replace(opened.manifest, tokens=tokens))
    from magvit_export.fused_classifier import _clip_shape
    from magvit_runtime.bundle.drawing_record import DrawingRecord

    frames, ids = opened.graph("encode")[1].inputs[0], opened.graph("classify")[1].inputs[0]
    drawn = DrawingRecord({"frames": 6, "height": 16, "width": 15})
    assert _clip_shape(frames, ids, changed.tokens, None) == (5, 16, 16, 3)
    assert _clip_shape(frames, ids, changed.tokens, drawn) == (6, 16, 15, 3)
    assert _clip_shape(frames, ids, changed.tokens, DrawingRecord({"frames": 7})) is None


def test_an_encoder_of_other_clips_has_none(bundle: Path) -> None:
    sizes = ClipSizes(frames=2, height=16, width=16)
    export_model(PRESET, bundle, weights="seeded", roles=["encode"], config=TINY, sizes=sizes)
    opened = open_bundle(bundle)
    assert set(opened.graphs("classify-clips")) == {"fp16"}
    with ClipClassifier.open(bundle, backend="onnxruntime") as fused:
        assert fused(clips(1, *CLIP)).probabilities.shape == (1, 3)


def test_a_new_classifier_takes_the_old_ones_proofs_away(bundle: Path) -> None:
    opened = open_bundle(bundle)
    verify_bundle(opened, find_reference(opened, None, None, "classify"), role="classify")
    encoders = find_reference(opened, "fp32", None)
    verify_bundle(opened, encoders)
    before = open_bundle(bundle).manifest
    assert {"classify native fp32", "encode native fp32"} <= set(before.stamps)
    assert set(before.canaries) == {"classify"}
    train(open_bundle(bundle), linear(*GRID), *GRID)
    after = open_bundle(bundle).manifest
    assert {name.split()[0] for name in after.stamps} == {"encode"}
    assert not after.canaries
    assert "canary.classify.npz" not in after.files
    assert set(after.graphs["classify-clips"]) == {"fp32", "fp16"}


def test_a_classifier_of_too_many_parameters_is_refused(bundle: Path) -> None:
    before = {path.name for path in bundle.iterdir()}
    head = TrajectoryClassifier(2**18, "table", num_classes=3, grid=GRID, width=12)
    with pytest.raises(InputError, match=r"too many parameters: found 3,\d+,\d+, expected at most"):
        train(open_bundle(bundle), head, *GRID)
    assert {path.name for path in bundle.iterdir()} == before


def test_a_classifier_that_computes_too_much_is_refused(bundle: Path) -> None:
    head = linear(*GRID)
    train(open_bundle(bundle), head, *GRID)
    encoder, ours = (open_bundle(bundle).graph(role)[1].work for role in ("encode", "classify"))
    assert encoder is not None
    assert ours is not None
    # It was counted for 17 x 128 x 128 pixels: 69,632 tokens, of which these clips have 192.
    share = ours.flop / (encoder.flop * 192 / 69_632)
    assert share < 0.02
    opened = open_bundle(bundle)
    smaller = msgspec.structs.replace(encoder, flop=round(encoder.flop * share / 0.021))
    graphs = {
        precision: msgspec.structs.replace(graph, work=smaller)
        for precision, graph in opened.graphs("encode").items()
    }
    changed = msgspec.structs.replace(
        opened.manifest, graphs={**opened.manifest.graphs, "encode": graphs}
    )
    write_manifest(bundle, changed)
    with pytest.raises(InputError, match=r"computes too much .* found 2\.1% of the encoder's"):
        train(open_bundle(bundle), head, *GRID)


def test_both_are_verified_by_their_own_graphs(bundle: Path) -> None:
    opened = open_bundle(bundle)
    for role in ("classify", "classify-clips"):
        reference = find_reference(opened, None, None, role)
        result = verify_bundle(opened, reference, role=role)
        assert result.passed
        assert "native fp32" in result.stamped
        assert result.canary
    with ClipClassifier.open(bundle, backend="native", require_parity=True, canary=True):
        pass
    with pytest.raises(InputError, match="PyTorch is no reference of classifiers"):
        find_reference(opened, "pytorch", None, "classify")


def test_a_fused_graph_with_another_classifier_disagrees(bundle: Path, tmp_path: Path) -> None:
    """Its ids are right; only its probabilities show it."""
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    head = linear(*GRID)
    head.head.weight.data = head.head.weight.data.flip(0)
    train(open_bundle(other), head, *GRID)
    opened = open_bundle(bundle)
    reference = find_reference(opened, str(other), None, "classify-clips")
    result = verify_bundle(opened, reference, role="classify-clips")
    assert not result.passed
    (native,) = [one for one in result.verdicts if one.subject == "native fp32"]
    assert native.agreement is not None
    assert native.agreement.facts["changed_tokens"] == 0


def test_the_native_backend_has_none_on_a_gpu(trained: Path) -> None:
    for role in ("classify", "classify-clips"):
        (unfit, *_) = list_candidates(open_bundle(trained), role).of("native-cuda").unfit
        assert "no classifiers on a GPU" in unfit.why


def test_it_says_why_it_goes_by_tokens(trained: Path, bundle: Path) -> None:
    opened = open_bundle(trained)
    assert why_tokens(opened, "auto", CLIP) == ""
    assert why_tokens(opened, "onnxruntime", CLIP) == ""
    assert "takes clips of [3, 16, 16, 3]" in why_tokens(opened, "auto", (5, 16, 16, 3))
    assert "native-cuda doesn't run the graph" in why_tokens(opened, "native-cuda", CLIP)
    graphs = {r: g for r, g in opened.manifest.graphs.items() if r != "classify-clips"}
    write_manifest(bundle, msgspec.structs.replace(opened.manifest, graphs=graphs))
    assert "no graph from clips to classes" in why_tokens(open_bundle(bundle), "auto", CLIP)
    with pytest.raises(BundleError, match=r"no classify-clips graph.*magvit train classifier"):
        ClipClassifier.open(bundle)
