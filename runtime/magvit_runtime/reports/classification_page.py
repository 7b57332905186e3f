"""The page of `magvit classify --report`: each clip plays beside its class and probabilities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.names import name_of
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.reports.clip_strips import ClipStrip, clip_strip
from magvit_runtime.types import Classification

# More would make a page that browsers open slowly, or not at all.
MOST_ROWS = 2000
MOST_BYTES = 64 << 20


class ShownRow(msgspec.Struct, frozen=True):
    """One clip or trajectory of the page.

    Attributes:
        id: Its name.
        label: Its true class, or None.
        predicted: Its class.
        right: Whether they agree; None where the label is none of the classes.
        probabilities: Of each class, in the order of the page's classes.
        clips: What was classified: one clip, or one of each camera.
    """

    id: str
    label: str | None
    predicted: str
    right: bool | None
    probabilities: list[float]
    clips: list[ClipStrip]


class ClassificationPage:
    """Collects the first clips that are classified, and what was said of them.

    Args:
        views: Clips of each row.
    """

    def __init__(self, views: int) -> None:
        self._views = views
        self._strips: list[ClipStrip] = []
        self._bytes = 0
        self._rows: list[ShownRow] = []
        self._classes: tuple[str, ...] = ()
        self._seen = 0

    def add_clips(self, frames: NDArray[np.uint8]) -> None:
        """Takes clips, uint8 [N, T, H, W, 3], in the order in which their rows come."""
        for clip in frames:
            if len(self._strips) >= MOST_ROWS * self._views or self._bytes > MOST_BYTES:
                return
            strip = clip_strip(clip)
            self._strips.append(strip)
            self._bytes += len(strip.image)

    def add_rows(
        self, ids: tuple[str, ...], labels: tuple[str | None, ...], found: Classification
    ) -> None:
        """Takes what was said of clips that `add_clips` has had."""
        self._classes = found.classes
        known = set(map(name_of, found.classes))
        rows = zip(ids, labels, found.labels, found.probabilities.tolist(), strict=True)
        for name, label, predicted, probabilities in rows:
            clips = self._strips[self._seen * self._views : (self._seen + 1) * self._views]
            self._seen += 1
            if len(clips) == self._views:
                right = label == name_of(predicted) if label in known else None
                rounded = [round(value, 6) for value in probabilities]
                self._rows.append(ShownRow(name, label, predicted, right, rounded, clips))

    def write(self, path: Path, title: str, facts: Mapping[str, str]) -> None:
        """Writes `html` to a file.

        Raises:
            InputError: The file can't be written.
        """
        with atomic_path(path) as partial:
            # A file name that is no text costs no page.
            partial.write_text(self.html(title, facts), "utf-8", "backslashreplace")

    def html(self, title: str, facts: Mapping[str, str]) -> str:
        """HTML of the page with its style, script and data; it makes no request.

        Args:
            title: The subject.
            facts: What a reader needs to know of the run, by name.
        """
        data = {"classes": self._classes, "rows": self._rows}
        environment = Environment(
            loader=PackageLoader("magvit_runtime.reports", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        # In ASCII, for names that are no text; and in a script's text only a < can end the script.
        text = json.dumps(msgspec.to_builtins(data), separators=(",", ":")).replace("<", "\\u003c")
        return environment.get_template("classification.html.jinja").render(
            title=title,
            facts=facts,
            left_out=self._seen - len(self._rows),
            shown=len(self._rows),
            data=Markup(text),
        )
