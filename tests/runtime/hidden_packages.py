"""Environments in which installed packages seem to be missing."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

# Every Python that starts with it runs `sitecustomize`: before anything else, and in each process.
_HIDING = """
import sys
from importlib.machinery import PathFinder

MODULES = {modules!r}
DISTRIBUTIONS = {distributions!r}


class Installed:
    @staticmethod
    def find_spec(name, path=None, target=None):
        hidden = name.partition(".")[0] in MODULES
        return None if hidden else PathFinder.find_spec(name, path, target)

    @staticmethod
    def find_distributions(*arguments):
        for found in PathFinder.find_distributions(*arguments):
            if found.name.lower().replace("_", "-") not in DISTRIBUTIONS:
                yield found


sys.meta_path = [Installed if finder is PathFinder else finder for finder in sys.meta_path]
"""


def hide(folder: Path, modules: Collection[str], distributions: Collection[str]) -> None:
    """Writes what hides packages from every Python that has `folder` first on its PYTHONPATH.

    Args:
        folder: Takes a `sitecustomize.py`.
        modules: Top-level modules to hide.
        distributions: Distributions to hide, in lower case with "-" for "_".
    """
    text = _HIDING.format(modules=sorted(modules), distributions=sorted(distributions))
    (folder / "sitecustomize.py").write_text(text)
