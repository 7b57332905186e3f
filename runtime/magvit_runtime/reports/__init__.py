"""Self-contained HTML reports: one file that opens from disk without a network.

Needs the extra [report]; nothing else in the package imports it before a report is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from magvit_runtime.hardware.packages import is_installed, missing_package

PACKAGES = ("jinja2", "plotly")
PACKAGES_OF_CLIPS = ("jinja2", "PIL")


def check_report_packages(packages: Sequence[str] = PACKAGES) -> None:
    """Refuses, before any work, if the report couldn't be written.

    Args:
        packages: What it needs: `PACKAGES` for figures, `PACKAGES_OF_CLIPS` for clips.

    Raises:
        MissingPackageError: A package that reports need isn't installed.
    """
    for name in packages:
        if not is_installed(name):
            raise missing_package(name, "a report (--report)")
