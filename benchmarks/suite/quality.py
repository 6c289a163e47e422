"""The parts of the suite: rows of trainings, one after the other, or those of one recipe and seed taking turns.

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
from .variants import merge

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Part:
    """One kind of rows: what it measures, whether trainings take turns, and how to train."""

    description: str
    turns: bool
    kwargs: Mapping[str, Any]

    def execute(self, settings: Sequence[Setting], path: pathlib.Path, **kwargs: Any) -> int:
        """Train whatever is not there yet, append a row for each training, and tell how many are new."""
        return (_race if self.turns else _one_by_one)(settings, path, **{**self.kwargs, **kwargs})


#: The parts, whose rows are in files of the same name
PARTS = {
    "quality": Part("Train one after the other, and rank the test triples once.", False, {"negatives": 512}),
    "race": Part("Train in turns, epoch by epoch, so that seconds can be compared; rank off the clock.", True, {}),
    "trials": Part("Race, and rank the validation triples alone.", True, {"ranked": "validation"}),
    "curves": Part("Race, and rank the validation triples in between, off the clock.", True, {"curve": True}),
    "cost": Part("Race, and tell steps apart by their parts, exactly.", True, {"ranked": "", "exact": True}),
    "scale": Part("Take some steps on graphs of any size.", True, {"ranked": "", "exact": True, "max_steps": 40}),
    "negatives": Part("Tell how hard and how true negatives are.", False, {"ranked": "", "negatives": 4096}),
}


def plan(
    recipes: Sequence[str],
    variants: Iterable[str],
    seeds: Iterable[int] = (1,),
    overrides: Mapping[str, Any] | None = None,
    *,
    epochs: int | None = None,
) -> list[Setting]:
    """List what to train, variants innermost, so that whatever the machine does hits all of them alike.

    :raises ValueError: if a recipe or a variant is unknown
    """
    changes = merge(overrides or {}, {} if epochs is None else {"training_kwargs": {"num_epochs": epochs}})
    order = itertools.product(recipes, seeds, list(variants))
    settings = [Setting(recipe, name, seed, changes) for recipe, seed, name in order]
    for setting in settings:
        experiment(setting)
    return settings


def _key(setting: Setting) -> tuple[str, str, int]:
    return setting.variant, experiment(setting)["metadata"]["digest"], setting.seed


def _key_of_row(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return row["variant"], row["digest"], row["seed"]


def is_present(row: Mapping[str, Any]) -> bool:
    """Tell whether a row was measured with the recipe, the variant and the defaults as they are now."""
    try:
        return _key(Setting(row["recipe"], row["variant"], row["seed"], row["overrides"])) == _key_of_row(row)
    # a recipe or a variant that there was
    except (KeyError, ValueError):
        return False


def _keep(path: pathlib.Path, setting: Setting, row: dict[str, Any]) -> None:
    append(path, row | {"overrides": dict(setting.overrides)})
    names = {"mrr": "MRR", "valid_mrr": "validation"}
    ranks = "".join(f"{name} {row[key]:.4f}, " for key, name in names.items() if key in row)
    logger.info("%s, %s, seed %d: %s%.1f s", row["recipe"], row["variant"], row["seed"], ranks, row["seconds"])


def _is_at_hand(setting: Setting) -> bool:
    """Tell whether the data are there, or say that they are not."""
    try:
        experiment_data = data.with_data_folder(experiment(setting)["pipeline"])
        data.load(experiment_data["dataset"], **experiment_data["dataset_kwargs"])
    except data.DataMissingError as error:
        logger.warning("%s, %s is left out: %s", setting.recipe, setting.variant, error)
        return False
    return True


def _one_by_one(settings: Iterable[Setting], path: pathlib.Path, **kwargs: Any) -> int:
    """Train one after the other."""
    count = 0
    for setting in settings:
        if _key(setting) not in map(_key_of_row, load(path)) and _is_at_hand(setting):
            _keep(path, setting, train(setting, **kwargs))
            count += 1
    return count


def _race(settings: Iterable[Setting], path: pathlib.Path, **kwargs: Any) -> int:
    """Let the variants of each recipe and seed take turns."""
    count = 0
    for _, group in itertools.groupby(settings, key=lambda setting: (setting.recipe, setting.seed)):
        entries = {setting.variant: setting for setting in group if _is_at_hand(setting)}
        runs: dict[str, set[tuple[str, str, int]]] = {}
        for row in load(path):
            runs.setdefault(row["run"], set()).add(_key_of_row(row))
        # all of them or none: what did not take turns cannot be compared
        if not entries or any({_key(setting) for setting in entries.values()} <= run for run in runs.values()):
            continue
        run = uuid.uuid4().hex[:12]
        common = {"threads": torch.get_num_threads(), **kwargs}
        for key, row in interleave(train, {key: {"setting": entries[key], **common} for key in entries}).items():
            _keep(path, entries[key], row | {"run": run})
            count += 1
    return count
