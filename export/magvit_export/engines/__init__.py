"""Builds TensorRT engines from bundles. Needs one flavour of TensorRT, and no torch."""

from magvit_export.engines.build import BuildResult, build_engine
from magvit_export.engines.options import BuildOptions
from magvit_export.engines.planning import BuildPlan, plan_build

__all__ = ["BuildOptions", "BuildPlan", "BuildResult", "build_engine", "plan_build"]
