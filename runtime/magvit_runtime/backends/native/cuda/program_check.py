"""What a program must be to run on a GPU."""

from __future__ import annotations

from magvit_runtime.backends.native.classifier_steps import ClassifierStep
from magvit_runtime.backends.native.decoder_steps import AdaptiveNormalization, PixelRounding
from magvit_runtime.backends.native.program import (
    CodebookSearch,
    LookupFreeQuantization,
    Program,
)
from magvit_runtime.errors import BackendError

# Of the map whose statistics an adaptive norm reads: one block of a kernel holds them all.
_MOST_STATISTICS = 256
_MEND = "use backend='native', or backend='onnxruntime'"


def check_program(program: Program) -> None:
    """Refuses a program that no schedule runs.

    Raises:
        BackendError: It has steps of a classifier; an output is there twice; ids, margins or
            bytes, which kernels write straight into the callers' memory, are no output; or an
            adaptive norm reads a map that is too wide.
    """
    if any(isinstance(step, ClassifierStep) for step in program.steps):
        raise BackendError("the native backend has no classifiers on a GPU", mend=_MEND)
    straight = set()
    for step in program.steps:
        if isinstance(step, LookupFreeQuantization | CodebookSearch | PixelRounding):
            straight.add(step.output)
        if isinstance(step, CodebookSearch):
            straight.add(step.margins)
    given = [output.value for output in program.outputs]
    if len(set(given)) != len(given) or not straight <= set(given):
        raise BackendError(
            "the native backend can't give these outputs on a GPU",
            found=", ".join(output.name for output in program.outputs),
            expected="all ids, margins and bytes, and maps, each once",
            mend=_MEND,
        )
    norms = [step for step in program.steps if isinstance(step, AdaptiveNormalization)]
    widths = {one.weight.shape[1] for norm in norms for one in (norm.scale, norm.shift)}
    if max(widths, default=0) > _MOST_STATISTICS:
        raise BackendError(
            "the native backend's adaptive norms read narrower maps on a GPU",
            found=f"one of {max(widths)} channels",
            expected=f"at most {_MOST_STATISTICS}",
            mend=_MEND,
        )
