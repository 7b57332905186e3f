"""The picture of many clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from magvit_runtime.clips.contact_sheet import write_contact_sheet

Image = pytest.importorskip("PIL.Image", reason="pictures need Pillow")

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), dtype=np.uint8)


def redness(picture: np.ndarray) -> int:
    """How much more red than green its most coloured pixel is."""
    difference = picture[..., 0].astype(int) - picture[..., 1]
    return int(difference.flat[np.abs(difference).argmax()])


def test_every_clip_is_there_with_a_caption_in_its_color(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    truth = ["circle", "line", "wave", "arc", "dot"]
    predicted = ["circle", "line", "wave", "circle", "dot"]
    write_contact_sheet(path, FRAMES, truth, predicted, columns=2)
    sheet = np.asarray(Image.open(path))
    height, width, _ = sheet.shape
    assert width >= 2 * 60
    assert height >= 3 * 40
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (40, 60, 3))[:, :, 0]
    for i, frame in enumerate(FRAMES):
        # Compared by one row first, as the whole would be a lot of work.
        ((y, x),) = np.argwhere((windows[:, :, 0] == frame[0]).all(axis=(2, 3)))
        np.testing.assert_array_equal(sheet[y : y + 40, x : x + 60], frame)
        caption = redness(sheet[y + 40 : y + 64, x : x + 60])
        assert caption < -50 if truth[i] == predicted[i] else caption > 50


def test_one_clip_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    write_contact_sheet(path, FRAMES[:1], ["circle"], ["line"])
    assert Image.open(path).format == "PNG"
    assert list(tmp_path.iterdir()) == [path]
