"""Which plan runs a conv, cuDNN's or our own, and the file that keeps these choices.

The fastest plan depends on the GPU, on cuDNN's version and on the conv's geometry. It isn't always
cuDNN's own first choice. So plans are timed once, and the choices are kept beside the bundle.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from magvit_runtime.backends.native.program import Sizes
from magvit_runtime.bundle.files import check_file, decode_json, read_json
from magvit_runtime.errors import BundleError, MagvitError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.hardware.gpus import gpu_slug
from magvit_runtime.native_libraries.cuda_operators import ABI

_LOG = logging.getLogger(__name__)

ConvPrecision = Literal["fp16", "tf32", "fp32"]
# Zeros around a conv's input: in memory, or implied by the conv.
Padding = Literal["border", "implied"]
# The number in the place of cuDNN's engines for the conv of our own CUDA operators.
OWN_ENGINE = -1


@dataclass(frozen=True)
class ConvGeometry:
    """All of a conv that its plan depends on.

    Attributes:
        precision: fp16 accumulates in float32; tf32 rounds float32 operands to 10 bits.
        batch: Clips.
        sizes: Frames, height and width of the input, without zeros around it.
        in_channels, out_channels: As they lie in memory, padding channels included.
        kernel, stride, pads_before, pads_after: In time, height and width.
        is_padded: Whether some of the channels are padding.
    """

    precision: ConvPrecision
    batch: int
    sizes: Sizes
    in_channels: int
    out_channels: int
    kernel: Sizes
    stride: Sizes
    pads_before: Sizes
    pads_after: Sizes
    is_padded: bool = False

    @property
    def padded_sizes(self) -> Sizes:
        """Sizes of the input with the zeros around it."""
        t, h, w = (
            b + n + a for b, n, a in zip(self.pads_before, self.sizes, self.pads_after, strict=True)
        )
        return t, h, w

    @property
    def output_sizes(self) -> Sizes:
        """Frames, height and width of the output."""
        axes = zip(self.padded_sizes, self.kernel, self.stride, strict=True)
        t, h, w = ((n - k) // s + 1 for n, k, s in axes)
        return t, h, w

    @property
    def paddings(self) -> tuple[Padding, ...]:
        """Where the conv's zeros can come from: implied, or a border in memory."""
        return ("implied", "border") if self.padded_sizes != self.sizes else ("implied",)

    @property
    def key(self) -> str:
        """Its name in the file of plans."""
        parts = (self.sizes, self.kernel, self.stride, self.pads_before, self.pads_after)
        sizes, kernel, stride, before, after = ("x".join(map(str, part)) for part in parts)
        return (
            f"{self.precision} {self.batch}x{sizes} {self.in_channels}>{self.out_channels} "
            f"kernel {kernel} stride {stride} pads {before} {after}"
            f"{' padded channels' if self.is_padded else ''}"
        )


class ConvPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plan of cuDNN, or our own kernel.

    Attributes:
        padding: Where the conv's zeros come from.
        engine: cuDNN's number of the engine, or `OWN_ENGINE`.
        knobs: Its settings by cuDNN's names.
        workspace: Bytes of extra memory that it needs.
        microseconds: The time that it took when plans were compared.
    """

    padding: Padding
    engine: int
    knobs: dict[str, int]
    workspace: int
    microseconds: float

    @property
    def is_own(self) -> bool:
        """Whether our own kernel runs it."""
        return self.engine == OWN_ENGINE


class _PlanFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    gpu: str
    cudnn: str
    plans: dict[str, ConvPlan]
    operators: int = 0  # the ABI of our own, which also tells their kernels apart


class PlanCache:
    """The plans known for one GPU, version of cuDNN and version of our own operators.

    Not thread-safe. A file that is damaged, or of another GPU or version, is logged and replaced.
    If the folder can't be written to, this is logged.

    Args:
        folder: Folder of the file, in a bundle; None keeps nothing.
        gpu: Product name.
        cudnn: Version of cuDNN.
    """

    def __init__(self, folder: Path | None, gpu: str, cudnn: str) -> None:
        self.path = None if folder is None else folder / f"{gpu_slug(gpu)}.cudnn-{cudnn}.plans"
        self._gpu = gpu
        self._cudnn = cudnn
        self._plans = {} if self.path is None else self._read(self.path)

    def get(self, geometry: ConvGeometry) -> ConvPlan | None:
        """The plan of a conv, if one is known."""
        plan = self._plans.get(geometry.key)
        return plan if plan is None or plan.padding in geometry.paddings else None

    def put(self, geometry: ConvGeometry, plan: ConvPlan) -> None:
        """Adds a plan; `save` writes it."""
        self._plans[geometry.key] = plan

    def save(self) -> None:
        """Writes the file."""
        if self.path is None:
            return
        content = msgspec.json.encode(_PlanFile(self._gpu, self._cudnn, self._plans, ABI))
        try:
            with atomic_path(self.path) as partial:
                partial.write_bytes(msgspec.json.format(content, indent=1))
        except (MagvitError, OSError) as error:
            _LOG.warning("plans of convs are not kept: %s", error)

    def _read(self, path: Path) -> dict[str, ConvPlan]:
        if not path.is_file():
            return {}
        try:
            check_file(path, path.parents[1])
            found = decode_json(path, read_json(path), _PlanFile, mend="remove it")
        except BundleError as error:
            _LOG.warning("plans of convs are timed again: %s", error)
            return {}
        if (found.gpu, found.cudnn) != (self._gpu, self._cudnn):
            _LOG.warning("plans of convs are timed again: %s is of %s", path, found.gpu)
            return {}
        if found.operators != ABI:
            _LOG.warning("plans of convs are timed again: %s is of other operators", path)
            return {}
        return dict(found.plans)
