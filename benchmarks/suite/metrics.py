"""Metrics of a row: PyKEEN's, and the normalised discounted cumulative gain, which PyKEEN does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pykeen.datasets import Dataset
from pykeen.evaluation import RankBasedEvaluator
from pykeen.metrics.ranking import RankBasedMetric
from pykeen.models import Model
from pykeen.pipeline import PipelineResult

__all__ = [
    "MRR",
    "DiscountedGainAtK",
    "test_metrics",
    "validation_mrr",
]

MRR = "both.realistic.inverse_harmonic_mean_rank"
_METRICS = {"mrr": MRR, "hits_at_1": "both.realistic.hits_at_1", "hits_at_10": "both.realistic.hits_at_10"}
#: The number of triples that are ranked at once
_BATCH_SIZE = 256


class DiscountedGainAtK(RankBasedMetric):
    """The normalised discounted cumulative gain at k, as the paper of DANS (arXiv:2410.07592) reports it with k = 5.

    Each query has one relevant entity, since all other known answers are filtered out. So the ideal gain is 1, and that
    of a rank r is 1 / log2(r + 1), or 0 beyond k.

    :param k: the last rank that counts
    """

    name = "Normalised discounted cumulative gain at k"
    increasing = True
    supports_weights = True

    def __init__(self, k: int = 5) -> None:
        """Initialise the metric."""
        super().__init__()
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


def test_metrics(result: PipelineResult) -> dict[str, float]:
    """Read the metrics on test triples, which PyKEEN has ranked once.

    :param result: the result of a pipeline that was given :class:`DiscountedGainAtK`

    :returns: the metrics, by the keys of result files
    """
    metrics = {name: result.get_metric(key) for name, key in _METRICS.items()}
    data: Mapping[Any, float] = result.metric_results.data
    for key, value in data.items():
        if (key.side, key.rank_type) == ("both", "realistic") and key.metric.startswith("ndcg_at_"):
            metrics[key.metric] = value
    return metrics


def validation_mrr(model: Model, dataset: Dataset) -> float:
    """Rank the validation triples, by which is selected. Test triples are not filtered out, since nobody knows them.

    :param model: the model
    :param dataset: the data set

    :returns: the filtered mean reciprocal rank
    """
    assert dataset.validation is not None
    result = RankBasedEvaluator(filtered=True, clear_on_finalize=True).evaluate(
        model=model,
        mapped_triples=dataset.validation.mapped_triples,
        additional_filter_triples=[dataset.training.mapped_triples],
        batch_size=_BATCH_SIZE,
        use_tqdm=False,
    )
    return float(result.get_metric(MRR))
