"""What huggingface_hub prints: bars on a terminal as everywhere, none in a pipe, and no log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_client() -> Iterator[None]:
    """Keeps its bars to terminals, and its log to errors, while the block runs.

    What its log warns of (nothing to upload, no file of a name) is said by those who call it.
    """
    from huggingface_hub.utils import logging as client_log  # noqa: TID251 - in the extra [hub]
    from huggingface_hub.utils.tqdm import (  # noqa: TID251
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    verbosity = client_log.get_verbosity()
    hides_bars = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if hides_bars:
        disable_progress_bars()
    client_log.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        client_log.set_verbosity(verbosity)
        if hides_bars:
            enable_progress_bars()
