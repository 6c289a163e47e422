"""Means over seeds, and paired differences with a confidence interval."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

from scipy.stats import t

from .records import Record

__all__ = [
    "Row",
    "summarise",
]

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Row:
    """What the trainings of one model with some negatives came to.

    :param model: the model
    :param label: the negatives
    :param seeds: the seeds
    :param means: the mean of each metric, and of the ``seconds``
    :param deviation: the standard deviation of the mean reciprocal rank, NaN for a single seed
    :param difference: the mean difference of the mean reciprocal rank to the first row of the model, over common seeds;
        NaN for the first row itself, or without any
    :param interval: its confidence interval of 95 % by Student's t, NaN for less than two common seeds
    """

    model: str
    label: str
    seeds: tuple[int, ...]
    means: dict[str, float]
    deviation: float
    difference: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)

    def as_json(self) -> dict[str, Any]:
        """Tell all of it in JSON, where None is what there is not."""
        content = dataclasses.asdict(self)
        for key in ("deviation", "difference"):
            content[key] = None if math.isnan(content[key]) else content[key]
        content["interval"] = None if math.isnan(self.interval[0]) else list(self.interval)
        return content


def _difference(values: dict[int, float], first: dict[int, float]) -> tuple[float, tuple[float, float]]:
    """Compare by seeds that both have."""
    pairs = [values[seed] - first[seed] for seed in values if seed in first]
    if not pairs:
        return math.nan, (math.nan, math.nan)
    mean = statistics.fmean(pairs)
    if len(pairs) < 2:
        return mean, (math.nan, math.nan)
    half = float(t.ppf((1 + _CONFIDENCE) / 2, len(pairs) - 1)) * statistics.stdev(pairs) / math.sqrt(len(pairs))
    return mean, (mean - half, mean + half)


def summarise(records: Sequence[Record]) -> list[Row]:
    """Sum up records by model and negatives, both in the order in which they come first.

    :param records: the records

    :returns: the rows
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.model, record.label), []).append(record)
    rows: list[Row] = []
    first: dict[str, dict[int, float]] = {}
    for (model, label), group in groups.items():
        values = {record.seed: record.metrics["mrr"] for record in group}
        row = Row(
            model=model,
            label=label,
            seeds=tuple(sorted(values)),
            means={name: statistics.fmean(record.metrics[name] for record in group) for name in group[0].metrics}
            | {"seconds": statistics.fmean(record.curve["total_seconds"] for record in group)},
            deviation=statistics.stdev(values.values()) if len(values) > 1 else math.nan,
        )
        if model in first:
            difference, interval = _difference(values, first[model])
            row = dataclasses.replace(row, difference=difference, interval=interval)
        else:
            first[model] = values
        rows.append(row)
    return sorted(rows, key=lambda each: list(first).index(each.model))
