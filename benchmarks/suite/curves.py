"""Time to quality: how long until a sampler has led to the best validation rank that 64 uniform negatives lead to.

All trainings of one run take turns (:mod:`suite.interleave`). The clock of each has its epochs and everything that its
sampler needs, and neither the ranking nor the time of others. Only validation triples are ranked.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import pathlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from . import data
from .configurations import Setting, base_recipe, options_digest, shared_digest
from .interleave import Task, interleave
from .rows import append, load
from .training import train_with_curve
from .variants import available

__all__ = [
    "REFERENCE",
    "Race",
    "execute",
    "ratios",
    "seconds_until",
]

logger = logging.getLogger(__name__)

FILE = "time.jsonl"
#: Whose best rank is the goal
REFERENCE = "basic-64"
#: Validation triples are ranked about this many times in a training
_POINTS = 20


@dataclasses.dataclass(frozen=True)
class Race:
    """One run of several samplers.

    :param recipe: the recipe
    :param variants: the variants, with the reference among them
    :param seed: the random seed
    :param factors: each variant but the reference trains for so many times the epochs of the recipe, once for each
        factor, since fewer negatives leave time for more epochs
    :param epochs: the number of epochs of the reference, default: the recipe's
    """

    recipe: str
    variants: tuple[str, ...]
    seed: int
    factors: tuple[int, ...] = (1, 2)
    epochs: int | None = None

    def entries(self) -> dict[str, Setting]:
        """List the trainings, by a name such as ``live x2``, without those that this installation lacks."""
        epochs = self.epochs or base_recipe(self.recipe)["pipeline"]["training_kwargs"]["num_epochs"]
        return {
            name if factor == 1 else f"{name} x{factor}": Setting(self.recipe, name, self.seed, epochs=factor * epochs)
            for factor in self.factors
            for name in available(self.variants)
            if factor == 1 or name != REFERENCE
        }


def seconds_until(row: Mapping[str, Any], value: float) -> float | None:
    """Tell when a curve has reached a value.

    :param row: the row of a training
    :param value: a mean reciprocal rank

    :returns: the seconds of training until the first measurement that is not less, None if there is none
    """
    return next((s for s, v in zip(row["seconds"], row["values"], strict=True) if v >= value), None)


def ratios(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Compare the trainings of one run.

    :param rows: its rows

    :returns: for each entry, the seconds until the reference's best value, as a share of those of the reference itself,
        None where it is not reached

    :raises ValueError: if the reference is not among the rows
    """
    reference = next((row for row in rows if row["entry"] == REFERENCE), None)
    if reference is None:
        raise ValueError(f"rows={[row['entry'] for row in rows]} lack {REFERENCE!r}, whose best value is the goal.")
    goal = max(reference["values"])
    needed = seconds_until(reference, goal)
    assert needed is not None
    found = {row["entry"]: seconds_until(row, goal) for row in rows}
    return {entry: None if seconds is None else seconds / needed for entry, seconds in found.items()}


def runs(rows: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Group rows by their run.

    :param rows: rows of the result file

    :returns: the rows of each run
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["run"], []).append(row)
    return list(groups.values())


def _is_done(race: Race, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether there is a run of these trainings already, and of all of them."""
    wanted = {
        (entry, shared_digest(setting), options_digest(setting), setting.seed)
        for entry, setting in race.entries().items()
    }
    keys = ("entry", "shared", "options", "seed")
    return any(wanted <= {tuple(row[key] for key in keys) for row in run} for run in runs(rows))


def execute(races: Iterable[Race], folder: pathlib.Path) -> int:
    """Run what is not there yet.

    :param races: the runs
    :param folder: the folder of the result files

    :returns: the number of new rows
    """
    path = folder / FILE
    count = 0
    for race in races:
        if _is_done(race, load(path)):
            continue
        dataset = race.recipe.partition("-")[0]
        try:
            data.load(dataset)
        except data.DataMissingError as error:
            logger.warning("%s is left out: %s", dataset, error)
            continue
        entries = race.entries()
        tasks = {
            entry: Task(
                train_with_curve,
                {
                    "setting": setting,
                    "frequency": math.ceil((setting.epochs or 1) / _POINTS),
                    "threads": torch.get_num_threads(),
                },
            )
            for entry, setting in entries.items()
        }
        run = uuid.uuid4().hex[:12]
        # all of them or none: what did not take turns cannot be compared
        for entry, result in interleave(tasks).items():
            setting = entries[entry]
            head = {"run": run, "recipe": race.recipe, "entry": entry, "variant": setting.variant, "seed": race.seed}
            append(path, {**head, "shared": shared_digest(setting), "options": options_digest(setting), **result})
            count += 1
        logger.info("%s, seed %d: %s", race.recipe, race.seed, ratios([r for r in load(path) if r["run"] == run]))
    return count
