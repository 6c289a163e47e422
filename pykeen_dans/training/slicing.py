"""The largest slice of candidates that fits into the memory, for devices that tell when it does not."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from torch_max_mem.api import is_oom_error

__all__ = [
    "search_slice_size",
]

logger = logging.getLogger(__name__)


def search_slice_size(probe: Callable[..., Any], free: Callable[[], Any], *, largest: int, batch_size: int) -> int:
    """Halve the size of slices until they fit into the memory.

    :param probe: trains a little with ``slice_size``
    :param free: frees what a trial has left behind
    :param largest: the size to begin with
    :param batch_size: the number of positives of a batch, which the error tells

    :returns: the size

    :raises MemoryError: if not even one candidate at a time fits
    """
    slice_size = largest
    while True:
        logger.debug("Trying slice_size=%d now.", slice_size)
        try:
            free()
            probe(slice_size=slice_size)
        except RuntimeError as error:
            free()
            if not is_oom_error(error):
                raise
            if slice_size == 1:
                raise MemoryError(
                    f"Even slice_size=1 does not fit into the memory with batch_size={batch_size}; make it smaller."
                ) from error
            slice_size = math.ceil(slice_size / 2)
        else:
            free()
            logger.info("Concluded search with slice_size=%d.", slice_size)
            return slice_size
