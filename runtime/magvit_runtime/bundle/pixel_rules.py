"""How pixels get into a graph, and how a graph makes them: records of bundle.json."""

from __future__ import annotations

from typing import Literal

from magvit_runtime.bundle.record import Record, Size

ResizeFilter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]


class Resizing(Record, frozen=True):
    """How frames are resized, as Pillow does it on bytes: by their shorter edge, or to a size.

    Attributes:
        filter: Pillow's name of the filter.
        shorter_edge: Its pixels; the longer one's are in proportion, rounded down.
        sizes: Height and width, where the shorter edge isn't given.
    """

    filter: ResizeFilter
    shorter_edge: Size | None = None
    sizes: tuple[Size, Size] | None = None

    def __post_init__(self) -> None:
        if (self.shorter_edge is None) == (self.sizes is None):
            raise ValueError("frames are resized by their shorter edge, or to a height and width")


class Preprocessing(Record, frozen=True):
    """What is done to pixels; callers do none of it.

    The runtime chooses frames, then resizes, then crops; the graph normalises.

    Attributes:
        layout: Order of the input's axes.
        color: Order of the colour channels.
        formula: Normalisation, of a byte x.
        frames: Frames that are taken of a clip of any length, evenly; None where the graph takes
            them all.
        resizing: How frames are resized; None where they stay as they are.
        crop: Height and width of what is cut from the middle, black around frames that are smaller;
            None where nothing is cut.
        source: Where these rules were read; None for the model's own.
    """

    layout: Literal["NTHWC", "NHWC"]
    color: Literal["RGB"]
    formula: str
    frames: Size | None = None
    resizing: Resizing | None = None
    crop: tuple[Size, Size] | None = None
    source: str | None = None


class Postprocessing(Record, frozen=True):
    """How a graph makes pixels of what it computes; callers do none of it.

    Attributes:
        layout: Order of the output's axes.
        color: Order of the colour channels.
        formula: The byte of a value x, where -1 is black and 1 is white.
    """

    layout: Literal["NTHWC", "NHWC"]
    color: Literal["RGB"]
    formula: str
