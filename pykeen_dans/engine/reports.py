"""What the work between epochs came to."""

from __future__ import annotations

import dataclasses

from ..generators import FitReport
from .diversity import Diversity

__all__ = [
    "RefreshReport",
    "UpdateReport",
]


@dataclasses.dataclass(frozen=True)
class RefreshReport:
    """What a refresh of the bank came to.

    :param queries: the number of queries that were generated for
    :param seconds: the wall time in seconds
    :param empty: the share of slots for which a query had no candidate, to be filled uniformly
    """

    queries: int
    seconds: float
    empty: float


@dataclasses.dataclass(frozen=True)
class UpdateReport:
    """What an update of an engine came to.

    :param fit: the training of the generator
    :param diversity: how diverse its vectors are
    :param refresh: the refresh of the bank
    :param metrics: all of it by the names of metrics
    """

    fit: FitReport
    diversity: Diversity
    refresh: RefreshReport
    metrics: dict[str, float]
