"""From labelled trajectories to a bundle with a classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.families.magvit.encoder import Encoder
from magvit_export.layers import lfq
from magvit_export.layers.pixels import normalize_pixels
from magvit_export.training.classifier import TrajectoryClassifier
from magvit_export.training.conv_head import ConvHead, Ensemble
from magvit_export.training.drawn_clips import (
    Look,
    read_labelled,
    tokenize_trajectories,
    usual_copies,
    variations,
)
from magvit_export.training.fine_tuning import FineTuneOptions, fine_tune, logits_of_signs
from magvit_export.training.group_column import read_groups
from magvit_export.training.hidden_head import HiddenHead
from magvit_export.training.options import FitOptions, TrainingOptions
from magvit_export.training.whole_way import TokenizerChoice, train_on_trajectories
from magvit_runtime import Classifier, Tokenizer, open_bundle
from magvit_runtime.clips.generated import (
    GenerationOptions,
    generate_trajectories,
    write_generated,
)
from magvit_runtime.clips.trajectories import (
    ONE_CAMERA,
    Cameras,
    ReadReport,
    StyleOptions,
    Trajectory,
    render,
)
from magvit_runtime.errors import InputError

TINY = TokenizerConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1, z_channels=8)
STYLE = StyleOptions(height=16, width=16, frames=3, margin=4)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    options = GenerationOptions(count=8, dimensions=3, kinds=("linear", "circular"))
    write_generated(path, generate_trajectories(options), 3)
    return path


def trajectories(csv: Path, look: Look) -> list[Trajectory]:
    return read_labelled(csv, look, ReadReport())


def test_two_views_and_copies_of_each_are_of_its_group(csv: Path, tiny_bundle: Path) -> None:
    look = Look(STYLE, cameras=Cameras(views=2))
    items = trajectories(csv, look)
    with Tokenizer.open(tiny_bundle) as tokenizer:
        clips = tokenize_trajectories(tokenizer, items, look, ReadReport(), copies=2, seed=1)
    assert len(clips.ids) == 16 * 2 * 3
    assert clips.ids[:2] == (f"{items[0].id}@0", f"{items[0].id}@1")
    assert clips.varied.tolist() == [False] * 32 + [True] * 64
    assert np.bincount(clips.groups).tolist() == [6] * 16
    by_group = dict(zip(clips.groups.tolist(), clips.labels, strict=True))
    assert all(by_group[g] == label for g, label in zip(clips.groups, clips.labels, strict=True))
    assert clips.ids[32] == f"{items[0].id}~1@0"
    assert clips.groups[32] == clips.groups[0]
    assert clips.infos[0].drawing.views == 2


def test_copies_differ_and_come_again(csv: Path) -> None:
    items = trajectories(csv, Look())
    first, again = list(variations(items, 2, 5)), list(variations(items, 2, 5))
    assert len(first) == 32
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.xy, other.xy)
        np.testing.assert_array_equal(one.t, other.t)
    assert np.abs(first[0].xy - first[1].xy).max() > 0.01
    for one in first[:4]:
        assert one.z is not None
        # A movement stays one: a little away, and as long in time.
        source = next(item for item in items if one.id.startswith(item.id))
        assert 0 < np.abs(one.t - source.t).max() < 0.3 * np.ptp(source.t)
        assert (one.t[0], one.t[-1]) == pytest.approx((source.t[0], source.t[-1]))
        assert np.abs(one.z - source.z).max() < 1
    assert not np.array_equal(next(variations(items, 2, 6)).xy, first[0].xy)


def test_many_trajectories_get_fewer_copies() -> None:
    found = [usual_copies(clips) for clips in (2, 384, 385, 1000, 2500, 2501, 100_000)]
    assert found == [12, 12, 11, 4, 1, 0, 0]


def test_from_a_file_to_classes(
    csv: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    look = Look(STYLE, cameras=Cameras(views=2))
    bundle = tmp_path / "bundle"
    options = TrainingOptions(folds=2)
    arguments = {"report": ReadReport(), "config": TINY, "copies": 1}
    result, tuned = train_on_trajectories(csv, bundle, look, options, **arguments)
    assert "GENERATED weights" in caplog.text
    assert tuned is None
    assert result.classes == ("circular", "linear")
    assert len(result.folds) == 2
    assert result.measures.trajectories == 16
    assert result.measures.accuracy == pytest.approx(np.mean(result.folds))
    # Measured on trajectories as they are, and trained on all at last.
    assert len(result.train) == 32
    head = open_bundle(bundle).manifest.heads["classifier"]
    assert head.training["varied_clips"] == 32
    assert head.training["head"] == "hidden"
    assert head.drawing.views == 2
    with Classifier.open(bundle) as classifier, Tokenizer.open(bundle) as tokenizer:
        frames = render(trajectories(csv, look), STYLE.checked(), look.cameras)
        found = classifier(np.concatenate([tokenizer(clip[None]) for clip in frames]))
    assert len(found.labels) == 32
    # A second training keeps the tokenizer.
    encoder = open_bundle(bundle).manifest.graphs["encode"]
    train_on_trajectories(csv, bundle, look, TrainingOptions(), report=ReadReport())
    assert open_bundle(bundle).manifest.graphs["encode"] == encoder
    # Twelve copies of two views of each by default.
    assert open_bundle(bundle).manifest.heads["classifier"].training["varied_clips"] == 32 * 12
    with pytest.raises(InputError, match="holds a tokenizer already"):
        train_on_trajectories(
            csv,
            bundle,
            look,
            options,
            report=ReadReport(),
            choice=TokenizerChoice(weights="seeded:1"),
        )


def test_a_column_groups_trajectories(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("id;x;y;who\na;0;0;Ann\na;1;1;Ann\nb;0;1;Bob\nb;1;0;Bob\nc;1;0;Ann\n")
    assert read_groups(path, "who", ["c", "b", "a"]) == ["Ann", "Bob", "Ann"]
    with pytest.raises(InputError, match="no column 'person' beside `id`: found id, x, y, who"):
        read_groups(path, "person", ["a"])
    with pytest.raises(InputError, match=r"1 trajectories of .* have no who: found d"):
        read_groups(path, "who", ["a", "d"])
    path.write_text("id,who\na,Ann\na,Bob\n")
    with pytest.raises(InputError, match=r"'a' of .* is in two groups"):
        read_groups(path, "who", ["a"])


@torch.no_grad()
def test_signs_give_a_hidden_head_s_logits_of_their_ids() -> None:
    torch.manual_seed(0)
    latents = torch.randn(3, 8, 2, 4, 4)
    head = HiddenHead(256, num_classes=4, grid=(2, 4, 4))
    signs = torch.where(latents > 0, 1.0, -1.0)
    torch.testing.assert_close(logits_of_signs(head, signs), head(lfq.quantize(latents)))


@pytest.mark.parametrize("members", [0, 1, 2])
@torch.no_grad()
def test_signs_give_the_logits_of_their_ids(members: int) -> None:
    torch.manual_seed(0)
    latents = torch.randn(3, 8, 2, 4, 4)
    heads = [ConvHead(256, num_classes=4, grid=(2, 4, 4)).eval() for _ in range(members)]
    head = (
        TrajectoryClassifier(256, num_classes=4, grid=(2, 4, 4), width=5)
        if not heads
        else heads[0]
        if members == 1
        else Ensemble(heads)
    )
    signs = torch.where(latents > 0, 1.0, -1.0)
    torch.testing.assert_close(logits_of_signs(head, signs), head(lfq.quantize(latents)))


def test_fine_tuning_lowers_the_loss_and_reaches_the_first_conv(tmp_path: Path) -> None:
    path = tmp_path / "four.csv"
    write_generated(path, generate_trajectories(GenerationOptions(count=10, dimensions=3)), 3)
    items = trajectories(path, Look())
    torch.manual_seed(2)
    encoder = Encoder(TINY)
    first = next(encoder.conv_in.parameters())
    before = first.detach().clone()
    found = fine_tune(
        encoder,
        items,
        list(range(len(items))),
        STYLE.checked(),
        ONE_CAMERA,
        FitOptions(validation=0.25),
        FineTuneOptions(True, 4),
        bits=8,
        vary=False,
    )
    assert len(found.losses) == 5
    # The start knows none of the trajectories that choose the epoch: it is no better than chance.
    assert found.losses[0] > 1
    assert found.losses[found.epoch] == min(found.losses) < found.losses[0] - 0.02
    assert (first - before).abs().max() > 1e-4


def test_a_fine_tuned_bundle_has_the_encoder_s_tokens_and_says_so(
    csv: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    bundle, look = tmp_path / "bundle", Look(STYLE)
    _, tuned = train_on_trajectories(
        csv,
        bundle,
        look,
        TrainingOptions(),
        report=ReadReport(),
        config=TINY,
        choice=TokenizerChoice(weights="seeded"),
        how=FineTuneOptions(True, 1, 1e-3),
    )
    assert tuned is not None
    weights = open_bundle(bundle).manifest.component.weights
    assert (weights.source, weights.name) == ("file", "bundle-fine-tuned.safetensors")
    encoder = Encoder(TINY)
    state = load_file(tmp_path / weights.name)
    encoder.load_state_dict({key.removeprefix("encoder."): v for key, v in state.items()})
    frames = render(trajectories(csv, look), STYLE.checked())
    with torch.no_grad():
        latents = encoder(normalize_pixels(torch.from_numpy(frames), torch.float32))
    with Tokenizer.open(bundle) as tokenizer:
        found = np.concatenate([tokenizer(clip[None]) for clip in frames])
    # Latents next to 0 may round to either side.
    bits = (found[:, None] >> np.arange(8)[:, None, None, None]) & 1
    sure = latents.abs().numpy() > 1e-4
    np.testing.assert_array_equal(bits[sure] == 1, latents.numpy()[sure] > 0)
    assert sure.mean() > 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TrainingOptions(folds=2), "fine-tuning is measured on held-out trajectories"),
        (TrainingOptions("table"), "through the bits of its tokens"),
    ],
)
def test_what_fine_tuning_can_t(
    csv: Path, tmp_path: Path, options: TrainingOptions, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train_on_trajectories(
            csv,
            tmp_path / "bundle",
            Look(STYLE),
            options,
            report=ReadReport(),
            config=TINY,
            choice=TokenizerChoice(weights="seeded"),
            how=FineTuneOptions(True),
        )
    assert not (tmp_path / "bundle").exists()
