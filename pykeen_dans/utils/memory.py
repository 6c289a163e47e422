"""Work that is done in smaller parts where there is too little memory for all of it at once."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor
from torch_max_mem.api import is_oom_error

from .logs import warn_once

__all__ = [
    "in_parts",
    "is_out_of_memory",
]

logger = logging.getLogger(__name__)

#: What torch says on Linux where memory of the CPU has run out, which torch_max_mem does not know
_OF_CPU = "DefaultCPUAllocator: can't allocate memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether something failed for want of memory, on any device.

    :param error: the error

    :returns: whether less at once may succeed
    """
    return isinstance(error, MemoryError) or is_oom_error(error) or _OF_CPU in str(error)


def in_parts(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Call a function of rows, with half of them, and half of these, as often as memory runs out.

    :param function: a function of rows that treats each by itself
    :param rows: shape: (n, ...) the rows

    :returns: shape: (n, ...) what it returns

    :raises MemoryError: if a single row is too much
    """
    try:
        return function(rows)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(rows) < 2:
            raise MemoryError(
                f"Memory has no room for the work on a single query ({error}); use a smaller model, or another device."
            ) from error
    # out of the handler, whose error holds on to what was allocated
    warn_once(logger, "Memory has no room for %d queries at once; going on with parts of them.", len(rows))
    half = len(rows) // 2
    return torch.cat([in_parts(function, rows[:half]), in_parts(function, rows[half:])])
