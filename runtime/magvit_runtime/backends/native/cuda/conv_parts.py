"""Causal convs in parts, which skip the time taps that would meet only zeros.

A conv with zeros before the first frame is either one conv, or several that write one output:
one for each output frame whose first taps meet zeros, without these taps, and one for all others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry, ConvPlan, Padding
from magvit_runtime.backends.native.program import Sizes
from magvit_runtime.errors import BackendError

_LOG = logging.getLogger(__name__)

# What a further launch in a CUDA graph costs, besides the conv itself.
_LAUNCH_MICROSECONDS = 2.0


@dataclass(frozen=True)
class ConvPart:
    """A conv that computes some output frames of another, or all of them.

    Attributes:
        geometry: The conv.
        first_tap: The time tap of the whole conv that is its first.
        first_input: The frame that it reads first.
        first_output: The frame that it writes first.
    """

    geometry: ConvGeometry
    first_tap: int = 0
    first_input: int = 0
    first_output: int = 0


@dataclass(frozen=True)
class PlannedConv:
    """The way in which a conv runs.

    Attributes:
        parts: What is launched, in any order.
        before, after: Zeros that they want in memory around the input, in each of the three.
        workspace: Bytes of extra memory; the parts share it, because they run one by one.
    """

    parts: tuple[ConvPart, ...]
    before: Sizes
    after: Sizes
    workspace: int


def plan_conv(geometry: ConvGeometry, plan_of: Callable[[ConvGeometry], ConvPlan]) -> PlannedConv:
    """Plans a conv as a whole or in parts, whichever is faster by the times of its plans.

    Parts have their zeros in height and width where the whole conv's plan has them.

    Args:
        geometry: The conv.
        plan_of: The plan of a conv.

    Raises:
        BackendError: The whole conv has no plan.
    """
    whole = plan_of(geometry)
    before, after = geometry.pads_before, geometry.pads_after
    if whole.padding == "implied":
        before = after = (0, 0, 0)
    best = PlannedConv((ConvPart(geometry),), before, after, whole.workspace)
    parts = split(geometry, whole.padding)
    total = _LAUNCH_MICROSECONDS * (len(parts) - 1)
    if not parts or total >= _skipped_share(geometry, parts) * whole.microseconds:
        return best
    workspace = 0
    for part in parts:
        try:
            plan = plan_of(part.geometry)
        except BackendError as error:
            _LOG.warning("conv %s runs as a whole: %s", geometry.key, error)
            return best
        total += plan.microseconds
        workspace = max(workspace, plan.workspace)
        if total >= whole.microseconds:
            return best
    return PlannedConv(parts, (0, *before[1:]), (0, *after[1:]), workspace)


def split(geometry: ConvGeometry, padding: Padding) -> tuple[ConvPart, ...]:
    """The parts of a conv, the largest first; none if no tap can be skipped.

    Args:
        geometry: The whole conv.
        padding: Where the parts' zeros in height and width come from.
    """
    zeros, taps, stride = geometry.pads_before[0], geometry.kernel[0], geometry.stride[0]
    frames, output_frames = geometry.sizes[0], geometry.output_sizes[0]
    # With as many zeros as taps, a frame would have no part that writes it.
    if geometry.pads_after[0] or not 0 < zeros < taps:
        return ()
    _, height, width = geometry.sizes if padding == "implied" else geometry.padded_sizes
    no_pads = (0, 0, 0)
    plain = replace(
        geometry,
        pads_before=(0, *geometry.pads_before[1:]) if padding == "implied" else no_pads,
        pads_after=geometry.pads_after if padding == "implied" else no_pads,
        clip_frames=(frames, output_frames),
    )
    first_full = min(-(-zeros // stride), output_frames)
    parts = []
    if first_full < output_frames:
        skipped = first_full * stride - zeros
        full = replace(plain, sizes=(frames - skipped, height, width))
        parts.append(ConvPart(full, 0, skipped, first_full))
    for frame in range(first_full):
        first_tap = zeros - frame * stride
        left = taps - first_tap
        few = replace(
            plain,
            sizes=(left, height, width),
            kernel=(left, *geometry.kernel[1:]),
            stride=(1, *geometry.stride[1:]),
        )
        parts.append(ConvPart(few, first_tap, 0, frame))
    return tuple(parts)


def _skipped_share(geometry: ConvGeometry, parts: tuple[ConvPart, ...]) -> float:
    """The share of a conv's multiplications that its parts don't make."""
    made = sum(part.geometry.kernel[0] * part.geometry.output_sizes[0] for part in parts)
    return 1 - made / (geometry.kernel[0] * geometry.output_sizes[0])
