"""Self-contained HTML reports: one file that opens from disk with no network.

Needs the extra [report]; nothing else in the package imports it before a report is asked for.
"""

from __future__ import annotations

from importlib.util import find_spec

from magvit_runtime.errors import MagvitError

PACKAGES = ("jinja2", "plotly")


def check_report_packages() -> None:
    """Refuses to start work whose report couldn't be written.

    Raises:
        MagvitError: A package that reports need isn't installed.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise MagvitError(
            f"reports need {' and '.join(missing)}",
            mend="pip install 'magvit-runtime[report]', or leave --report out",
        )
