"""Self-contained HTML reports: one file that opens from disk without a network.

Needs the extra [report]; nothing else in the package imports it before a report is asked for.
"""

from __future__ import annotations

from magvit_runtime.hardware.packages import is_installed, missing_package

PACKAGES = ("jinja2", "plotly")


def check_report_packages() -> None:
    """Refuses, before any work, if the report couldn't be written.

    Raises:
        MissingPackageError: A package that reports need isn't installed.
    """
    for name in PACKAGES:
        if not is_installed(name):
            raise missing_package(name, "a report (--report)")
