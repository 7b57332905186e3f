"""Finds the needs of a step that this machine lacks."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from steps import Step
from wheels import holds_module


def module_place(module: str, wheels: Path | None) -> str | None:
    """Where a module is: "in a wheel" or "installed"; None if it is missing."""
    if wheels is not None and holds_module(wheels, module):
        return "in a wheel"
    return "installed" if _is_installed(module) else None


def missing(step: Step, wheels: Path | None) -> Iterator[str]:
    """The reasons why a step can't run, as text.

    Args:
        step: The step.
        wheels: Folder of wheels that are installed for the run.
    """
    for module in step.modules:
        if module_place(module, wheels) is None:
            yield f"the Python module {module} isn't installed"
    for tool in step.tools:
        if which(tool) is None:
            yield f"{tool} isn't on the PATH"
    for path in step.inputs:
        if not path.exists():
            yield f"{path} is missing: --dry-run says which step makes it"


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # The package around the module is missing.
        return False
