"""Messages that are worth saying once."""

from __future__ import annotations

import functools
import logging
from typing import Any

__all__ = [
    "info_once",
    "warn_once",
]


@functools.lru_cache(maxsize=1024)
def warn_once(logger: logging.Logger, message: str, *args: Any) -> None:
    """Log a warning, unless the same one was logged before; samplers come and go within a second.

    :param logger: the logger
    :param message: the message, with places for the arguments
    :param args: the arguments, which must be hashable
    """
    # the frame to be shown is that of the caller
    logger.warning(message, *args, stacklevel=2)


@functools.lru_cache(maxsize=1024)
def info_once(logger: logging.Logger, message: str, *args: Any) -> None:
    """Log an information, unless the same one was logged before.

    :param logger: the logger
    :param message: the message, with places for the arguments
    :param args: the arguments, which must be hashable
    """
    logger.info(message, *args, stacklevel=2)
