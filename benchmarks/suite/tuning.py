"""Tune a recipe on validation triples, each loss and loop alike, and write it to the package.

The first trial of a study is the recipe as it was. All trials are kept, and a study that was interrupted goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import operator
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from pykeen_dans.experiments import load_recipe, recipe_names

from .recipes import Setting, experiment
from .rows import RESULTS
from .training import train
from .variants import lookup, merge, nested

logger = logging.getLogger(__name__)

STUDIES = RESULTS / "tuning"
#: The recipes that the package ships
EXPERIMENTS = pathlib.Path(__file__).parents[2].resolve() / "pykeen_dans" / "experiments"
#: The learning rates of each optimizer
_RATES = {"adagrad": (5e-2, 4e-1), "adam": (1e-3, 5e-2)}
METRIC = "validation MRR, all known triples filtered"


def space_of(pipeline_options: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """Tell what is searched, by paths with dots: learning rate, regularisation weight, and what the loss has."""
    space: dict[str, BaseDistribution] = {}
    space["optimizer_kwargs.lr"] = FloatDistribution(*_RATES[pipeline_options["optimizer"]], log=True)
    if "regularizer" in pipeline_options:
        space["regularizer_kwargs.weight"] = FloatDistribution(3e-4, 5e-2, log=True)
    loss = pipeline_options["loss_kwargs"]
    if "adversarial_temperature" in loss:
        space["loss_kwargs.adversarial_temperature"] = CategoricalDistribution([0.5, 1.0, 2.0])
    # those of products have none
    if loss.get("margin", 0.0) > 0:
        space["loss_kwargs.margin"] = CategoricalDistribution([3.0, 4.5, 6.0, 9.0, 12.0])
    return space


def _with(options: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Override nested options by their paths."""
    return functools.reduce(merge, (nested(*item) for item in params.items()), dict(options))


def tune(setting: Setting, *, trials: int, folder: pathlib.Path = STUDIES) -> dict[str, Any]:
    """Run a study of the recipe of a variant, or go on with it, and return its record.

    :param setting: what to tune; its seed is that of the search and of all trainings
    :param trials: the number of trials, with those that there are
    """
    recipe, variant, seed, overrides = setting.recipe, setting.variant, setting.seed, setting.overrides
    made = experiment(setting)["pipeline"]
    space = space_of(made)
    ending = lookup(variant)[0].tuned[0]
    name = "-".join([*recipe.split("-")[:2], ending]) if ending else recipe
    path = folder / f"{name}.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if record.get("variant") != variant or record.get("metric") != METRIC or record.get("seed") != seed:
        # a study of another kind, such as those of PyKEEN's own ranks
        record = {"recipe": recipe, "variant": variant, "metric": METRIC, "seed": seed, "trials": []}
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed + len(record["trials"]), n_startup_trials=5)
    )
    for trial in record["trials"]:
        study.add_trial(optuna.trial.create_trial(params=trial["params"], distributions=space, value=trial["value"]))
    if not record["trials"]:
        # within the space, which the recipe may have left
        first = {path: functools.reduce(operator.getitem, path.split("."), made) for path in space}
        study.enqueue_trial({key: value for key, value in first.items() if space[key]._contains(value)})
    while len(record["trials"]) < trials:
        trial = study.ask(space)
        started = time.perf_counter()
        changes = _with(overrides, trial.params)
        value = train(dataclasses.replace(setting, overrides=changes), ranked="validation")["valid_mrr"]
        study.tell(trial, value)
        record["trials"].append({"value": value, "params": trial.params, "seconds": time.perf_counter() - started})
        record["best"] = max(record["trials"], key=lambda tried: tried["value"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n")
        logger.info("%s, trial %d: %.4f with %s", name, len(record["trials"]), value, trial.params)
    return {**record, "name": name}


def write_recipe(record: Mapping[str, Any], folder: pathlib.Path = EXPERIMENTS) -> pathlib.Path:
    """Write the best trial of a study, as :func:`tune` returns it, as a recipe of the package."""
    name, variant = record["name"], record["variant"]
    # the sampler and the epochs of one that is shipped stay
    made = load_recipe(name) if name in recipe_names() else experiment(Setting(record["recipe"], variant, 0))
    made["pipeline"] = _with(made["pipeline"], record["best"]["params"])
    made["pipeline"].pop("random_seed", None)
    trials = len(record["trials"])
    made["metadata"] = {
        **{key: made["metadata"][key] for key in ("title", "num_negatives") if key in made["metadata"]},
        "comments": f"The best of {trials} trials for the variant '{variant}' by {record['metric']}.",
        "study": name,
        "tuned_for": variant,
        "trials": trials,
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(made | {"results": {}}, indent=2) + "\n")
    return path
