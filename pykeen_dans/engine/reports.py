"""What the work between epochs came to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..bank import NegativeBank
from ..generators import FitReport
from .diversity import Diversity
from .steering import HardnessSteering

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

    queries: int = 0
    seconds: float = 0.0
    empty: float = 0.0


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

    @classmethod
    def create(
        cls,
        fit: FitReport,
        diversity: Diversity,
        refresh: RefreshReport,
        *,
        bank: NegativeBank,
        steering: HardnessSteering,
        sources: Sequence[str],
    ) -> UpdateReport:
        """Bring all figures together.

        :param fit: the training of the generator
        :param diversity: how diverse its vectors are
        :param refresh: the refresh of the bank
        :param bank: what is filled
        :param steering: what holds the hardness of the bands
        :param sources: the names of sources

        :returns: the report
        """
        metrics = {
            **fit.metrics,
            **diversity.metrics,
            "fit_steps": fit.steps,
            "fit_seconds": fit.seconds,
            "refreshed": refresh.queries,
            "refresh_seconds": refresh.seconds,
            "empty": refresh.empty,
            "filled": bank.filled,
        }
        for metric, values in (("percentile", steering.percentiles), ("spread", steering.spreads)):
            for band, of_band in enumerate(values):
                for name, value in zip(sources, of_band, strict=True):
                    metrics[f"{metric}_{band}_{name}" if len(sources) > 1 else f"{metric}_{band}"] = value
        return cls(fit=fit, diversity=diversity, refresh=refresh, metrics=metrics)
