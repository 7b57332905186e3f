"""The clips that a tokenizer is trained on: of the step alone, and never held-out ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from magvit_export.libras import load_libras
from magvit_export.training.classifier_training import train_classifier
from magvit_export.training.options import TrainingOptions
from magvit_export.training.tokenizer.clips import (
    held_out_clips,
    libras_split,
    recorded_file,
    style_of,
    training_clips,
)
from magvit_runtime.clips.generated import (
    GenerationOptions,
    generate_trajectories,
    write_generated,
)
from magvit_runtime.clips.trajectories import RenderStyle
from magvit_runtime.errors import InputError
from magvit_runtime.quantizers.specs import LfqSpec
from magvit_runtime.results.token_files import TokenFileInfo, TokenTable

STYLE = style_of(32, 5)


def test_libras_is_split_once_by_class() -> None:
    data = libras_split()
    assert (len(data.train), len(data.held_out)) == (250, 80)
    train, held_out = ({item.xy.tobytes() for item in part} for part in (data.train, data.held_out))
    assert len(train) == 250
    assert len(held_out) == 80
    assert not train & held_out
    assert {item.label for item in data.held_out} == {item.label for item in data.train}
    assert data.sha256 == libras_split().sha256


def test_a_classifier_is_measured_on_what_the_tokenizer_never_saw(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    labels = load_libras().labels
    tokens = np.random.default_rng(0).integers(2**18, size=(len(labels), 1, 1, 2), dtype=np.int32)
    lfq = LfqSpec(bits=18, bit_order="lsb-first")
    info = TokenFileInfo("trajectory-small", "seeded", None, lfq, (1, 1, 2))
    ids = tuple(f"libras-{i:03}" for i in range(len(labels)))
    result = train_classifier(bundle, TokenTable(info, ids, labels, tokens), TrainingOptions())
    assert [ids[i] for i in result.held_out] == [item.id for item in libras_split().held_out]


def test_a_step_s_clips_are_its_own_and_come_again() -> None:
    data = libras_split()

    def clips(seed: int, step: int) -> np.ndarray:
        return training_clips(data, STYLE, seed=seed, step=step, count=6)

    first = clips(0, 0)
    assert first.shape == (6, 5, 32, 32, 3)
    np.testing.assert_array_equal(first, clips(0, 0))
    seen = {
        clip.tobytes() for found in (first, clips(0, 1), clips(1, 0), clips(1, 1)) for clip in found
    }
    assert len(seen) == 24


def test_held_out_clips_are_spread_over_their_classes() -> None:
    data = libras_split()
    few = held_out_clips(data, 16)
    assert {name: len(items) for name, items in few.items()} == {"recorded": 16, "generated": 16}
    assert len({item.label for item in few["recorded"]}) >= 12
    assert len({item.label for item in few["generated"]}) == 8
    every = held_out_clips(data, 80)
    assert every["recorded"] == list(data.held_out)
    assert len({item.xy.tobytes() for item in every["generated"]}) == 80


def test_a_user_s_file_is_split_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    write_generated(path, generate_trajectories(GenerationOptions(count=8)), 2)
    data = recorded_file(path)
    assert data.name == "mine.csv"
    assert (len(data.train), len(data.held_out)) == (24, 8)
    assert {item.label for item in data.held_out} == {"linear", "circular", "helical", "parabolic"}
    assert training_clips(data, STYLE, seed=0, step=0, count=4).any()


def test_a_file_without_labels_is_split_as_one_class(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    rows = [f"{i},{x},{x * i}" for i in range(8) for x in range(3)]
    path.write_text("\n".join(["id,x,y", *rows]))
    data = recorded_file(path)
    assert (len(data.train), len(data.held_out)) == (6, 2)


def test_a_file_of_few_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("id,x,y\n1,0,0\n1,1,1\n2,0,0\n2,1,1\n")
    with pytest.raises(InputError, match=r"can't be trained on: found 2, expected 4 to 100000"):
        recorded_file(path)


def test_the_look_is_the_usual_one_at_every_size() -> None:
    assert style_of(128, 17) == RenderStyle()
    small = style_of(64, 17)
    usual = RenderStyle()
    assert small.margin == 6
    assert (small.trail_width, small.head_radius) == (usual.trail_width, usual.head_radius)
    assert style_of(16, 1).margin == 4
