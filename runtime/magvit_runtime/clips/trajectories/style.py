"""How clips look: size, length, margin, line, head and gray levels."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from magvit_runtime.errors import InputError

LONGEST = 65_535  # Pixels of a side, and frames: more is a slip of the hand.
LARGEST_CLIP = 4 << 30  # Bytes: twice what 17 frames of 8K video take.


@dataclass(frozen=True)
class StyleOptions:
    """What a `RenderStyle` is made of; only the size is checked, for a video has no more than that.

    Attributes:
        height: Pixels.
        width: Pixels.
        frames: Frames of a clip; the first shows the start of the path, the last all of it.
        margin: Pixels between the path and each edge of the picture.
        trail_width: Width of the line, in pixels.
        head_radius: Radius of the disc at the current position, in pixels; at least half of
            trail_width.
        background: Gray level, 0 to 255, of every pixel that is not drawn on.
        trail_level: Gray level of the trail, above the background.
        head_level: Gray level of the head, not below the trail's.
        y_axis: "down" where y grows downward, as in images; "up" as in plots.

    Raises:
        InputError: Height, width or frames isn't positive, or a clip would be over 4 GiB.
    """

    height: int = 128
    width: int = 128
    frames: int = 17
    margin: int = 12
    trail_width: float = 2.5
    head_radius: float = 3.0
    background: int = 0
    trail_level: int = 110
    head_level: int = 255
    y_axis: Literal["down", "up"] = "down"

    def __post_init__(self) -> None:
        for name in ("height", "width", "frames"):
            value = getattr(self, name)
            if value < 1:
                raise InputError(f"{name} is too small", found=value, expected="≥ 1")
            if value > LONGEST:
                raise InputError(f"{name} is too large", found=value, expected=f"≤ {LONGEST}")
        if self.clip_bytes > LARGEST_CLIP:
            raise InputError(
                "a clip of this size is too large",
                found=f"{self.frames} frames of {self.height}×{self.width} pixels, "
                f"{self.clip_bytes / 2**30:.1f} GiB",
                expected=f"≤ {LARGEST_CLIP >> 30} GiB",
                mend="lower frames, height or width",
            )

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip."""
        return self.frames * self.height * self.width * 3

    def checked(self) -> RenderStyle:
        """The style, for drawing.

        Raises:
            InputError: As of `RenderStyle`.
        """
        return RenderStyle(**{field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(frozen=True)
class RenderStyle(StyleOptions):
    """How trajectories become clips: a dim trail that grows behind a bright head.

    Attributes:
        height, width, frames, margin, trail_width, head_radius, background, trail_level,
            head_level, y_axis: As of `StyleOptions`.

    Raises:
        InputError: A value can't be used; the message says which and what is expected.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        # Written so that NaN fails too.
        for name in ("trail_width", "head_radius"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is too small", found=getattr(self, name), expected="> 0")
        # So the head hides the end of the line: the first frame shows the head alone.
        if not self.head_radius >= self.trail_width / 2:
            raise InputError(
                "head_radius is smaller than half of trail_width",
                found=f"{self.head_radius} and {self.trail_width}",
                expected=f"head_radius ≥ {self.trail_width / 2:g}",
            )
        # With this room nothing is ever drawn outside the picture.
        room = self.head_radius + 0.5
        if not self.margin >= room:
            raise InputError(
                "margin leaves no room for the head at the picture's edge",
                found=self.margin,
                expected=f"≥ {room:g}",
                mend="raise margin or lower head_radius",
            )
        if 2 * self.margin + 1 >= min(self.height, self.width):
            raise InputError(
                "margin leaves no room for the path",
                found=f"margin {self.margin} in {self.height}×{self.width} pixels",
                expected=f"height and width > {2 * self.margin + 1}",
                mend="lower margin, or raise height and width",
            )
        if not 0 <= self.background < self.trail_level <= self.head_level <= 255:
            raise InputError(
                "gray levels are out of order",
                found=f"background {self.background}, trail_level {self.trail_level}, "
                f"head_level {self.head_level}",
                expected="0 ≤ background < trail_level ≤ head_level ≤ 255",
            )
        if self.y_axis not in ("down", "up"):
            raise InputError("y_axis is unknown", found=self.y_axis, expected="'down' or 'up'")


DEFAULT_STYLE = RenderStyle()
