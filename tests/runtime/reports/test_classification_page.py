"""The page of classes: all of its data, clips that are what was classified, and no request."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime.reports.html_reading import outward_references, read_html

from magvit_runtime.reports import classification_page
from magvit_runtime.reports.classification_page import ClassificationPage
from magvit_runtime.reports.clip_strips import LARGEST_SIDE, MOST_FRAMES, clip_strip
from magvit_runtime.types import Classification

Image = pytest.importorskip("PIL.Image", reason="clips need Pillow")

HOSTILE = '</script><script>alert(1)</script><img src="https://example.com/x">&'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)


def pixels(image: str) -> np.ndarray:
    kind, _, data = image.partition(";base64,")
    assert kind in ("data:image/png", "data:image/webp")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def gray_clips(count: int) -> np.ndarray:
    gray = np.random.default_rng(0).integers(0, 256, (count, 5, 24, 32, 1), np.uint8)
    return np.repeat(gray, 3, axis=-1)


def page_of(clips: np.ndarray, views: int = 1) -> ClassificationPage:
    """Rows that are right, wrong, of no label, and of a label that is no class."""
    rows = len(clips) // views
    labels = (("a", "1", None, HOSTILE) * rows)[:rows]
    probabilities = np.tile(np.array([[0.75, 0.25]], np.float32), (rows, 1))
    page = ClassificationPage(views)
    page.add_clips(clips)
    ids = tuple(f"clip {row}" if row else HOSTILE for row in range(rows))
    page.add_rows(ids, labels, Classification(("a",) * rows, probabilities, ("a", "1.0")))
    return page


def data_of(html: str) -> Any:
    (text,) = [
        script.words for script in read_html(html).find("script") if script.attributes.get("id")
    ]
    return json.loads(text)


def test_every_row_is_there_with_its_clip() -> None:
    clips = gray_clips(4)
    data = data_of(page_of(clips).html("Classes", {"Model": HOSTILE}))
    assert data["classes"] == ["a", "1.0"]
    assert [row["right"] for row in data["rows"]] == [True, False, None, None]
    assert [row["label"] for row in data["rows"]] == ["a", "1", None, HOSTILE]
    assert [row["id"] for row in data["rows"]] == [HOSTILE, "clip 1", "clip 2", "clip 3"]
    for row, clip in zip(data["rows"], clips, strict=True):
        assert row["probabilities"] == [0.75, 0.25]
        (shown,) = row["clips"]
        assert (shown["frames"], shown["height"], shown["width"]) == (5, 24, 32)
        np.testing.assert_array_equal(pixels(shown["image"]).reshape(clip.shape), clip)


def test_it_fetches_nothing_and_text_stays_text() -> None:
    html = page_of(gray_clips(4)).html("Classes", {"Model": HOSTILE})
    document = read_html(html)
    assert outward_references(document) == []
    assert "alert(1)" in document.find("dd")[0].text
    assert len(document.find("script")) == 2
    assert "default-src 'none'" in html


def test_names_that_are_no_text_cost_no_page(tmp_path: Path) -> None:
    page = ClassificationPage(1)
    page.add_clips(gray_clips(1))
    found = Classification(("a",), np.array([[1.0]], np.float32), ("a",))
    page.add_rows(("\udcff",), (None,), found)
    page.write(tmp_path / "page.html", "Classes of \udcff.csv", {})
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert data_of(html)["rows"][0]["id"] == "\udcff"


def test_views_of_a_trajectory_are_side_by_side() -> None:
    data = data_of(page_of(gray_clips(6), views=3).html("Classes", {}))
    assert [len(row["clips"]) for row in data["rows"]] == [3, 3]


def test_what_is_too_much_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classification_page, "MOST_ROWS", 2)
    html = page_of(gray_clips(6)).html("Classes", {})
    assert len(data_of(html)["rows"]) == 2
    assert "The first 2 of 6 are shown" in read_html(html).text
    monkeypatch.setattr(classification_page, "MOST_BYTES", 1)
    html = page_of(gray_clips(6), views=2).html("Classes", {})
    assert data_of(html)["rows"] == []


def test_colors_large_clips_and_long_ones_are_made_fit() -> None:
    colors = np.zeros((60, 512, 256, 3), np.uint8)
    colors[..., 0] = 200
    colors[30:, ..., 2] = 250
    strip = clip_strip(colors)
    assert (strip.frames, strip.height, strip.width) == (MOST_FRAMES, LARGEST_SIDE, 128)
    shown = pixels(strip.image).reshape(MOST_FRAMES, LARGEST_SIDE, 128, 3)
    assert np.abs(shown[0].mean(axis=(0, 1)) - [200, 0, 0]).max() < 12
    assert np.abs(shown[-1].mean(axis=(0, 1)) - [200, 0, 250]).max() < 12
    still = clip_strip(np.full((24, 32, 3), 7, np.uint8))
    assert (still.frames, still.height, still.width) == (1, 24, 32)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_every_row_and_finds_no_fault(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    path = tmp_path / "page.html"
    path.write_text(page_of(gray_clips(4)).html("Classes", {}), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    options = ["--virtual-time-budget=2000", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, *options, path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    document = read_html(done.stdout)
    (shown,) = [item for item in document.find("ul") if item.attributes.get("id") == "clips"]
    cards = shown.find("li")
    assert [card.attributes["class"] for card in cards] == ["right", "wrong", "unknown", "unknown"]
    assert "instead of 1" in cards[1].text
    assert HOSTILE in cards[0].text
    assert "4 of 4" in document.text
