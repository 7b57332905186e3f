"""The picture of clips beside what came back."""

from pathlib import Path

import numpy as np
from PIL import Image

from magvit_runtime.clips.comparison_sheet import (
    GAP,
    comparison_sheet,
    write_comparison_sheet,
)


def test_a_row_holds_the_middle_frame_what_came_back_and_the_difference(tmp_path: Path) -> None:
    original = np.zeros((2, 5, 8, 10, 3), np.uint8)
    original[:, 2] = 100
    decoded = original.copy()
    decoded[1, 2] = 90
    sheet = comparison_sheet(original, decoded)
    assert sheet.shape == (2 * (8 + GAP) + GAP, 3 * (10 + GAP) + GAP, 3)
    y = GAP + 8 + GAP
    cells = [sheet[y : y + 8, GAP + i * (10 + GAP) :][:, :10] for i in range(3)]
    assert [int(cell.min()) for cell in cells] == [int(cell.max()) for cell in cells]
    assert [int(cell.max()) for cell in cells] == [100, 90, 40]
    write_comparison_sheet(tmp_path / "sheet.png", original, decoded)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "sheet.png")), sheet)
