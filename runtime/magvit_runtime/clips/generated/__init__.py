"""Trajectories of known kinds, made from a seed: the same numbers on every machine."""

from magvit_runtime.clips.generated.curves import KINDS
from magvit_runtime.clips.generated.generating import (
    COMMON_KINDS,
    GeneratedTrajectory,
    GenerationOptions,
    generate_trajectories,
    generate_trajectory,
)
from magvit_runtime.clips.generated.writing import GENERATED_SUFFIXES, write_generated

__all__ = [
    "COMMON_KINDS",
    "GENERATED_SUFFIXES",
    "KINDS",
    "GeneratedTrajectory",
    "GenerationOptions",
    "generate_trajectories",
    "generate_trajectory",
    "write_generated",
]
