"""Engines for EC2 instances: what each GPU needs, and what can't be built on this machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from magvit_export.engines.options import BuildOptions
from magvit_export.engines.planning import BuildPlan, plan_build
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.errors import InputError, MagvitError
from magvit_runtime.hardware.flavours import rtx_refusal
from magvit_runtime.hardware.gpus import Gpu
from magvit_runtime.hardware.machine import Machine

# GPU and compute capability of each kind of instance, as docs/engines.md lists them.
INSTANCES: dict[str, tuple[str, str]] = {
    "g4dn": ("T4", "7.5"),
    "g5": ("A10G", "8.6"),
    "g6": ("L4", "8.9"),
    "gr6": ("L4", "8.9"),
    "g6e": ("L40S", "8.9"),
    "g7e": ("RTX PRO 6000", "12.0"),
    "p4d": ("A100", "8.0"),
    "p4de": ("A100", "8.0"),
    "p5": ("H100", "9.0"),
    "p5e": ("H200", "9.0"),
    "p5en": ("H200", "9.0"),
    "p6-b200": ("B200", "10.0"),
    "p6-b300": ("B300", "10.3"),
}


@dataclass(frozen=True)
class Target:
    """What one kind of instance gets.

    Attributes:
        instance: Its name: "g6e".
        gpu: Its GPU.
        sm: The GPU's compute capability.
        plan: What is built for it; None if nothing can be here.
        why: Why this, or why nothing.
        fix: How an engine is had for it where nothing can be built here.
    """

    instance: str
    gpu: str
    sm: str
    plan: BuildPlan | None
    why: str
    fix: str = ""


def plan_for_instances(
    bundle: Bundle, options: BuildOptions, machine: Machine, names: str
) -> tuple[Target, ...]:
    """Plans the engines of several kinds of instances; a portable one serves several.

    Args:
        bundle: The bundle.
        options: How they are built; each instance's GPU takes the place of `sm`.
        machine: This machine.
        names: Kinds of instances: "g5,g6,g6e".

    Raises:
        InputError: No instance is called so, or `options` ask for one compute capability.
    """
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",")))
    unknown = [name for name in chosen if name not in INSTANCES]
    if unknown:
        raise InputError(
            "no kind of instance is called so",
            found=", ".join(unknown),
            expected=", ".join(INSTANCES),
        )
    if options.sm is not None:
        raise InputError("--for and --sm exclude each other", mend="leave --sm out")
    return tuple(_target(bundle, options, machine, name) for name in chosen)


def distinct_plans(targets: Sequence[Target]) -> list[BuildPlan]:
    """The plans of targets, each once."""
    return list({target.plan.plan: target.plan for target in targets if target.plan}.values())


def _target(bundle: Bundle, options: BuildOptions, machine: Machine, name: str) -> Target:
    gpu, sm = INSTANCES[name]
    elsewhere = f"magvit build {bundle.path} on a {name}"
    refusal = rtx_refusal(sm)
    is_here = machine.gpu is not None and _is_model(machine.gpu, gpu)
    if not is_here and (refusal is not None or options.flavour == "tensorrt"):
        here = f"here is {machine.gpu.name}" if machine.gpu else "there is none here"
        tuned = f"tensorrt builds on the GPU that the engine is for, and {here}"
        why = tuned if refusal is None else f"{refusal}, and {tuned}"
        return Target(name, gpu, sm, None, why, elsewhere)
    try:
        if is_here:
            plan = plan_build(bundle, options, machine)
            return Target(name, gpu, sm, plan, plan.reason)
        # TensorRT-RTX builds without a GPU, where the one here is none that it supports.
        builder = machine if machine.gpu and not rtx_refusal(machine.gpu.sm) else machine.on(None)
        plan = plan_build(bundle, replace(options, flavour="tensorrt-rtx"), builder)
    except MagvitError as error:
        return Target(name, gpu, sm, None, error.what, error.mend or elsewhere)
    return Target(name, gpu, sm, plan, "a portable engine, compiled for its GPU at first load")


def _is_model(gpu: Gpu, model: str) -> bool:
    """Whether a GPU is of a model: an L40S is no L4, and a part of a GPU (MIG) none of it."""
    words = re.split(r"[\s-]+", gpu.name)
    return set(model.split()) <= set(words) and "MIG" not in words
