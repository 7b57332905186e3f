"""The attention of libmagvit_operators.so.

kernels/include/magvit/operators.h says what it does.
"""

from __future__ import annotations

import ctypes

from magvit_runtime.backends.native.cpu.convs import ThreadPool, structure_of
from magvit_runtime.backends.native.cpu.maps import FeatureMap
from magvit_runtime.errors import BackendError
from magvit_runtime.native_libraries.convs import load_convs


def attend(
    pool: ThreadPool,
    queries: FeatureMap,
    keys: FeatureMap,
    values: FeatureMap,
    target: FeatureMap,
) -> None:
    """Writes, at each position, the values' sum by the softmax over positions of q·k / √C.

    Args:
        pool: Its threads.
        queries: What it reads, without a background.
        keys: Likewise, of the same shape.
        values: Likewise.
        target: What it writes, of that shape.

    Raises:
        BackendError: The maps don't fit, or memory is short.
    """
    library = load_convs()
    maps = [structure_of(one) for one in (queries, keys, values, target)]
    status = library.magvit_attention_run(*(ctypes.byref(one) for one in maps), pool.handle)
    if status != 0:
        message = library.magvit_status_message(status).decode()
        raise BackendError("the native backend can't run attention", found=message)
