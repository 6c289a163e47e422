"""Quality at equal budget: the same recipe, number of negatives and epochs, other negatives.

A row is one training. Nothing is selected on test triples, which are ranked once, after the last epoch; whatever a
table selects, it selects by the rank of validation triples.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from pykeen.datasets import Dataset
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.sampling import negative_sampler_resolver
from pykeen.training.callbacks import TrainingCallback, callback_resolver

from pykeen_dans.inspection.diagnostics import as_trained, describe_negatives
from pykeen_dans.training.callback import CurriculumTrainingCallback

from . import data
from .configurations import (
    Setting,
    configuration_to_run,
    is_present,
    options_digest,
    shared_digest,
)
from .devices import Utilisation
from .metrics import DiscountedGainAtK, test_metrics, validation_mrr
from .oracle import OracleTrainingCallback
from .rows import append, environment, load
from .variants import VARIANTS, available

__all__ = [
    "callbacks_of",
    "describe_bands",
    "execute",
    "key_of",
    "plan",
    "run",
]

logger = logging.getLogger(__name__)

FILE = "quality.jsonl"


def callbacks_of(setting: Setting, configuration: dict[str, Any]) -> list[TrainingCallback]:
    """Make the training callbacks of a row, and take them out of its configuration.

    :param setting: what the row trains
    :param configuration: its configuration, in which they are named

    :returns: the callbacks, of which a row can tell what they cost
    """
    training = configuration["pipeline"]["training_kwargs"]
    hints, kwargs = training.pop("callbacks", None), training.pop("callbacks_kwargs", None)
    callbacks = list(callback_resolver.make_many(hints, kwargs)) if hints else []
    if VARIANTS[setting.variant].callback == "oracle":
        callbacks.append(OracleTrainingCallback())
    return callbacks


def run(setting: Setting) -> dict[str, Any]:
    """Train once.

    :param setting: what to train

    :returns: the row
    """
    experiment = configuration_to_run(setting)
    callbacks = callbacks_of(setting, experiment)
    options = experiment["pipeline"]
    dataset = data.load(options.pop("dataset"), **options.pop("dataset_kwargs"))
    options["training_kwargs"].update(callbacks=callbacks, use_tqdm=False)
    started = time.perf_counter()
    with Utilisation() as utilisation:
        result = pipeline(
            **options,
            dataset=dataset,
            evaluator_kwargs={"metrics": [DiscountedGainAtK(5)]},
            evaluation_kwargs={"use_tqdm": False},
            result_tracker="python",
        )
    total_seconds = time.perf_counter() - started
    number = options["negative_sampler_kwargs"]["num_negs_per_pos"]
    epochs = options["training_kwargs"]["num_epochs"]
    num_triples = dataset.training.num_triples * (2 if dataset.training.create_inverse_triples else 1)
    row = {
        "recipe": setting.recipe,
        "variant": setting.variant,
        "seed": setting.seed,
        "loss_name": setting.loss,
        "filtered": setting.filtered,
        "num_negatives": number,
        "num_epochs": epochs,
        "shared": shared_digest(setting),
        "options": options_digest(setting),
        "configuration": configuration_to_run(setting)["pipeline"],
        **test_metrics(result),
        "valid_mrr": validation_mrr(result.model, dataset),
        "loss": result.losses[-1],
        "train_seconds": result.train_seconds,
        "total_seconds": total_seconds,
        "overhead_seconds": sum(getattr(callback, "overhead_seconds", 0.0) for callback in callbacks),
        "train_ns_per_negative": result.train_seconds / (epochs * num_triples * number) * 1e9,
        **environment(result.model.device),
    }
    if any(isinstance(callback, CurriculumTrainingCallback) for callback in callbacks):
        row["bands"] = describe_bands(result, dataset)
    if utilisation.mean is not None:
        row["utilisation"] = utilisation.mean
    for callback in callbacks:
        if isinstance(callback, OracleTrainingCallback):
            row["refresh_seconds"] = callback.refresh_seconds
    return row


def describe_bands(result: PipelineResult, dataset: Dataset) -> list[dict[str, float]]:
    """Tell of each band of the last bank how hard it was, and how much of it was true. Nothing is selected by it.

    :param result: the result of a training with the curriculum callback
    :param dataset: its data set

    :returns: for each band the median percentile under the trained model, the share of known answers in training, and
        that of validation and test triples
    """
    training = as_trained(dataset.training)
    loop: Any = result.training_loop
    # a sampler like the one in training, with the same coupling and so with the same bank
    sampler = negative_sampler_resolver.make(
        loop.negative_sampler,
        loop.negative_sampler_kwargs,
        mapped_triples=training,
        num_entities=dataset.training.num_entities,
        num_relations=dataset.training.num_relations,
    )
    held_out = [factory.mapped_triples for factory in (dataset.validation, dataset.testing) if factory is not None]
    report = describe_negatives(
        sampler,
        mapped_triples=training,
        held_out=as_trained(dataset.training, torch.cat(held_out)),
        model=result.model,
    )
    return [{"percentile": band.hardness, "known": band.known, "held_out": band.held_out} for band in report.bands]


def key_of(value: Setting | Mapping[str, Any]) -> tuple[Any, ...]:
    """Tell rows apart.

    :param value: a setting, or a row. Rows of early versions lack some keys, and are of the recipe's own loss.

    :returns: what tells it from others: recipe, variant, seed, loss, filtered, negatives and epochs
    """
    if isinstance(value, Setting):
        trained = configuration_to_run(value)["pipeline"]
        number = trained["negative_sampler_kwargs"]["num_negs_per_pos"]
        epochs = trained["training_kwargs"]["num_epochs"]
        return value.recipe, value.variant, value.seed, value.loss, value.filtered, number, epochs
    return (
        *(value[key] for key in ("recipe", "variant", "seed")),
        value.get("loss_name", "nssa"),
        value.get("filtered", False),
        value["num_negatives"],
        value["num_epochs"],
    )


def is_done(setting: Setting, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether a row is there already.

    :param setting: what would be trained
    :param rows: the rows that there are

    :returns: whether one of them has this setting, and the recipe and the defaults as they are now
    """
    key = key_of(setting)
    return any(key_of(row) == key and is_present(row, setting) for row in rows)


def plan(
    recipes: Sequence[str],
    variants: Sequence[str],
    seeds: Sequence[int],
    *,
    losses: Sequence[str] = ("nssa",),
    filtered: Sequence[bool] = (False,),
    epochs: int | None = None,
) -> Iterator[Setting]:
    """List what to train, variants innermost, so that whatever the machine does hits all of them alike.

    :param recipes: the recipes
    :param variants: the variants; those that this installation lacks are left out
    :param seeds: the seeds
    :param losses: the losses
    :param filtered: whether known triples are filtered out of the negatives
    :param epochs: the number of epochs, default: each recipe's

    :yields: the settings
    """
    names = available(variants)
    for recipe in recipes:
        for loss in losses:
            for seed in seeds:
                for flag in filtered:
                    for name in names:
                        yield Setting(recipe, name, seed, loss=loss, filtered=flag, epochs=epochs)


def execute(settings: Iterable[Setting], folder: pathlib.Path) -> int:
    """Train whatever is not there yet, and append a row for each training.

    :param settings: what to train
    :param folder: the folder of the result files

    :returns: the number of new rows
    """
    path = folder / FILE
    unavailable: set[str] = set()
    count = 0
    for setting in settings:
        if setting.dataset in unavailable or is_done(setting, load(path)):
            continue
        try:
            row = run(setting)
        except data.DataMissingError as error:
            unavailable.add(setting.dataset)
            logger.warning("%s is left out: %s", setting.dataset, error)
            continue
        append(path, row)
        count += 1
        logger.info(
            "%s: MRR %.4f in %.1f s",
            ", ".join(f"{value}" for value in dataclasses.asdict(setting).values() if value not in (None, False)),
            row["mrr"],
            row["train_seconds"],
        )
    return count
