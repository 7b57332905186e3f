"""Types that several layers share."""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import NDArray

Array = NDArray[Any]

Activation = Literal["none", "silu"]
Flavour = Literal["tensorrt", "tensorrt-rtx"]
Precision = Literal["fp32", "fp16", "bf16", "tf32"]
