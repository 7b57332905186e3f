"""The shape of a value of a program."""

from __future__ import annotations

# Frames, height, width and channels of one clip's value.
ClipShape = tuple[int, int, int, int]
