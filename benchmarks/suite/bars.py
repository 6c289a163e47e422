"""What the results must show: bars that were set before anything was measured, and what the rows say."""

from __future__ import annotations

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .configurations import DATASETS, Setting, is_present
from .curves import ratios, runs

__all__ = [
    "HEADLINE_RATIO",
    "RECIPE_BARS",
    "Headline",
    "Level",
    "headline",
    "recipe_levels",
]

#: So many live negatives must reach the rank of 64 uniform ones
HEADLINE_NEGATIVES = 8
#: ... in this share of their time
HEADLINE_RATIO = 1 / 3
#: ... on so many data sets, with so many models on each
HEADLINE_DATASETS, HEADLINE_MODELS = 4, 2
#: The mean reciprocal rank on test triples that a shipped recipe must reach on each data set
RECIPE_BARS = {
    "umls": 0.972,
    "kinships": 0.89,
    "codexsmall": 0.465,
    "family": 0.994,
    "wn18rr": 0.480,
    "fb15k237": 0.350,
}
#: The variants that count as a recipe of this package: its samplers with their defaults, or as the recipe has them
_CANDIDATES = ("shipped", "live", "dans", "dhns")


@dataclasses.dataclass(frozen=True)
class Level:
    """What a recipe has reached.

    :param dataset: the data set
    :param bar: the mean reciprocal rank that is wanted
    :param recipe: the recipe, None where nothing was measured
    :param variant: the variant of it
    :param num_seeds: the number of seeds
    :param mrr: the mean over seeds, on test triples
    :param selected: whether it was selected by validation triples
    """

    dataset: str
    bar: float
    recipe: str | None = None
    variant: str | None = None
    num_seeds: int = 0
    mrr: float | None = None
    selected: bool = False

    @property
    def reached(self) -> str:
        """Say it in words."""
        if self.mrr is None:
            return "not measured"
        return "yes" if self.mrr >= self.bar else "no"


def recipe_levels(rows: Iterable[Mapping[str, Any]]) -> list[Level]:
    """Compare the bars with the rows.

    On each data set, one recipe and sampler is selected by the mean rank of validation triples. Rows of early versions
    do not have it: where no row has it, each recipe is listed, and nothing is selected.

    :param rows: rows of the quality matrix

    :returns: one level or more for each data set, in the order of the bars
    """
    groups: dict[tuple[Any, ...], dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for row in rows:
        plain = row.get("loss_name", "nssa") == "nssa" and not row.get("filtered", False)
        # what was trained with an earlier recipe, or with earlier defaults, is none of the shipped ones
        if plain and row["variant"] in _CANDIDATES and is_present(row, _setting_of(row)):
            # of several rows with one seed, the last
            groups[row["recipe"], row["variant"], row["num_epochs"], row["num_negatives"]][row["seed"]] = row
    levels = []
    for dataset, bar in RECIPE_BARS.items():
        own = [list(group.values()) for key, group in groups.items() if key[0].partition("-")[0] == dataset]
        validated = [group for group in own if all("valid_mrr" in row for row in group)]
        if validated:
            best = max(validated, key=lambda group: statistics.fmean(row["valid_mrr"] for row in group))
            levels.append(_level(dataset, bar, best, selected=True))
        elif own:
            levels.extend(_level(dataset, bar, group, selected=False) for group in own)
        else:
            levels.append(Level(dataset, bar))
    return levels


def _setting_of(row: Mapping[str, Any]) -> Setting:
    """Tell the setting of a row with the recipe's own loss."""
    return Setting(row["recipe"], row["variant"], row["seed"], epochs=row["num_epochs"])


def _level(dataset: str, bar: float, group: Sequence[Mapping[str, Any]], *, selected: bool) -> Level:
    return Level(
        dataset,
        bar,
        recipe=group[0]["recipe"],
        variant=group[0]["variant"],
        num_seeds=len(group),
        mrr=statistics.fmean(row["mrr"] for row in group),
        selected=selected,
    )


@dataclasses.dataclass(frozen=True)
class Headline:
    """How far the headline goes.

    :param reached: data set -> the models with which the rank was reached in time
    :param measured: data set -> the models that were measured
    :param best: recipe -> the median over runs of the best ratio, None where most runs do not reach the rank
    """

    reached: Mapping[str, Sequence[str]]
    measured: Mapping[str, Sequence[str]]
    best: Mapping[str, float | None]

    @property
    def num_datasets(self) -> int:
        """The number of data sets with enough models."""
        return sum(len(models) >= HEADLINE_MODELS for models in self.reached.values())

    @property
    def verdict(self) -> str:
        """Say it in words."""
        if self.num_datasets >= HEADLINE_DATASETS:
            return "reached"
        possible = sum(len(models) >= HEADLINE_MODELS for models in self.measured.values())
        return "not reached" if possible >= HEADLINE_DATASETS else "not measured on enough data sets and models"


def headline(rows: Iterable[Mapping[str, Any]], *, variant: str = "live") -> Headline:
    """Tell where live negatives reach the rank of 64 uniform ones in time.

    :param rows: rows of time to quality
    :param variant: the variant; of its entries, the one with the best ratio on validation triples counts

    :returns: data sets and models
    """
    found: dict[str, list[float]] = defaultdict(list)
    for run in runs(rows):
        if not all(is_present(row, _setting_of(row)) for row in run):
            continue
        entries = {
            row["entry"] for row in run if row["variant"] == variant and row["num_negatives"] == HEADLINE_NEGATIVES
        }
        values = [value for entry, value in ratios(run).items() if entry in entries]
        if values:
            found[run[0]["recipe"]].append(min((v for v in values if v is not None), default=float("inf")))
    reached: dict[str, list[str]] = {dataset: [] for dataset in DATASETS}
    measured: dict[str, list[str]] = {dataset: [] for dataset in DATASETS}
    best: dict[str, float | None] = {}
    for recipe, shares in found.items():
        dataset, model = recipe.split("-")[:2]
        median = statistics.median(shares)
        best[recipe] = None if median == float("inf") else median
        if dataset not in DATASETS:
            continue
        measured[dataset].append(model)
        if median <= HEADLINE_RATIO:
            reached[dataset].append(model)
    return Headline(reached=reached, measured=measured, best=best)
