"""Rank-based metrics that PyKEEN lacks."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import numpy as np
from pykeen.metrics.ranking import RankBasedMetric
from pykeen.metrics.utils import ValueRange

__all__ = [
    "NDCGAtK",
]


class NDCGAtK(RankBasedMetric):
    """The normalised discounted cumulative gain at k of queries with one relevant entity each.

    All other known answers are filtered out of the ranking, so that the ideal gain is 1, and that of a rank r is
    1 / log2(r + 1) up to rank k, and 0 beyond. The paper of DANS (arXiv:2410.07592) reports it with k = 5.

    Once the package is imported, PyKEEN's evaluator computes it together with its own metrics, and
    ``result.get_metric("ndcg_at_5")`` reads it.

    :param k: the last rank that counts

    :raises ValueError: if k is less than 1
    """

    name = "Normalised discounted cumulative gain at k"
    value_range: ClassVar[ValueRange] = ValueRange(lower=0, lower_inclusive=True, upper=1, upper_inclusive=True)
    synonyms: ClassVar[Collection[str]] = ("ndcg_at_5",)
    increasing: ClassVar[bool] = True
    supports_weights: ClassVar[bool] = True

    def __init__(self, k: int = 5) -> None:
        """Initialise the metric."""
        super().__init__()
        if k < 1:
            raise ValueError(f"k={k} must be at least 1.")
        self.k = k

    # docstr-coverage: inherited
    @property
    def key(self) -> str:  # noqa: D102
        return f"ndcg_at_{self.k}"

    # docstr-coverage: inherited
    def __call__(  # noqa: D102
        self, ranks: np.ndarray, num_candidates: np.ndarray | None = None, weights: np.ndarray | None = None
    ) -> float:
        gains = np.where(ranks <= self.k, 1 / np.log2(ranks + 1), 0.0)
        return float(np.average(gains, weights=weights))
