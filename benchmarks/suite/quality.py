"""Quality: the same recipe and epochs, other negatives or another loop, each alone or all of them taking turns.

Nothing is selected on test triples, which are ranked once, after the last epoch.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import pathlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from . import data
from .recipes import Setting, experiment
from .rows import append, load
from .training import train
from .turns import interleave
from .variants import available

logger = logging.getLogger(__name__)

#: The result files: trainings one after the other, trainings that took turns, and descriptions of negatives
QUALITY, RACE, NEGATIVES = "quality.jsonl", "race.jsonl", "negatives.jsonl"


def plan(
    recipes: Sequence[str],
    variants: Iterable[str],
    seeds: Iterable[int] = (1,),
    overrides: Mapping[str, Any] | None = None,
) -> list[Setting]:
    """List what to train, variants innermost, so that whatever the machine does hits all of them alike.

    Variants that this installation lacks are left out.
    """
    names = available(variants)
    return [
        Setting(recipe, name, seed, overrides or {}) for recipe, seed, name in itertools.product(recipes, seeds, names)
    ]


def _key(setting: Setting) -> tuple[str, str, int]:
    return setting.variant, experiment(setting)["metadata"]["digest"], setting.seed


def _key_of_row(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return row["variant"], row["digest"], row["seed"]


def is_present(row: Mapping[str, Any]) -> bool:
    """Tell whether a row was measured with the recipe, the variant and the defaults as they are now."""
    try:
        setting = Setting(row["recipe"], row["variant"], row["seed"], row.get("overrides", {}))
        return _key(setting) == _key_of_row(row)
    # a recipe or a variant that there was
    except (KeyError, ValueError):
        return False


def _tell(row: Mapping[str, Any]) -> None:
    rank = f"MRR {row['mrr']:.4f}, validation {row['valid_mrr']:.4f}, " if "mrr" in row else ""
    logger.info("%s, %s, seed %d: %s%.1f s", row["recipe"], row["variant"], row["seed"], rank, row["seconds"])


def execute(settings: Iterable[Setting], folder: pathlib.Path, *, name: str = QUALITY, **kwargs: Any) -> int:
    """Train whatever is not there yet, one after the other, and append a row for each training.

    :param settings: what to train
    :param folder: the folder of the result files
    :param name: the result file
    :param kwargs: how to train, see :func:`suite.training.train`

    :returns: the number of new rows
    """
    path = folder / name
    missing: set[str] = set()
    count = 0
    for setting in settings:
        if setting.dataset in missing or _key(setting) in map(_key_of_row, load(path)):
            continue
        try:
            row = train(setting, **kwargs)
        except data.DataMissingError as error:
            missing.add(setting.dataset)
            logger.warning("%s is left out: %s", setting.dataset, error)
            continue
        append(path, row | {"overrides": setting.overrides})
        _tell(row)
        count += 1
    return count


def race(settings: Sequence[Setting], folder: pathlib.Path, *, name: str = RACE, **kwargs: Any) -> int:
    """Train in turns, so that seconds can be compared, once for each recipe and seed that is not there yet.

    :param settings: what to train; the variants of one recipe and seed take turns
    :param folder: the folder of the result files
    :param name: the result file
    :param kwargs: how to train, see :func:`suite.training.train`

    :returns: the number of new rows
    """
    path = folder / name
    count = 0
    groups = itertools.groupby(settings, key=lambda setting: (setting.recipe, setting.seed))
    for (recipe, _), group in groups:
        entries = {setting.variant: setting for setting in group}
        runs: dict[str, set[tuple[str, str, int]]] = {}
        for row in load(path):
            runs.setdefault(row["run"], set()).add(_key_of_row(row))
        # all of them or none: what did not take turns cannot be compared
        if any({_key(setting) for setting in entries.values()} <= run for run in runs.values()):
            continue
        try:
            data.load(recipe.partition("-")[0])
        except data.DataMissingError as error:
            logger.warning("%s is left out: %s", recipe, error)
            continue
        run = uuid.uuid4().hex[:12]
        common = {"threads": torch.get_num_threads(), **kwargs}
        tasks = {key: {"setting": setting, **common} for key, setting in entries.items()}
        for key, row in interleave(train, tasks).items():
            append(path, row | {"run": run, "overrides": dict(entries[key].overrides)})
            _tell(row)
            count += 1
    return count


def with_epochs(settings: Iterable[Setting], epochs: int) -> list[Setting]:
    """Train for another number of epochs."""
    changes = {"training_kwargs": {"num_epochs": epochs}}
    return [dataclasses.replace(setting, overrides={**setting.overrides, **changes}) for setting in settings]
