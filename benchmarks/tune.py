"""Tune the recipe of each (data set, model) pair **for the basic sampler**, on validation triples only.

The best trial becomes the recipe that every sampler of the benchmark uses unchanged, so that whatever an adaptive
sampler gains, it gains on ground that was prepared for its competitor. The study is PyKEEN's own ``hpo_pipeline``; all
of its trials are recorded beside the recipe in ``benchmarks/results/tuning/``.

    python benchmarks/tune.py --only codexsmall-complex --trials 16
"""

from __future__ import annotations

import json
import logging
import pathlib
import time
from typing import Any

import click
import optuna
import torch
from pykeen.hpo import hpo_pipeline
from suite.multimodal.ranking import fast_ranking

HERE = pathlib.Path(__file__).parent.resolve()
TUNING = HERE.joinpath("results", "tuning")

_COMPLEX: dict[str, Any] = {
    "model": "ComplEx",
    "model_kwargs": {
        "embedding_dim": 64,
        "entity_initializer": "xavier_normal_",
        "relation_initializer": "xavier_normal_",
    },
    "regularizer": "powersum",
    "regularizer_kwargs": {"p": 3.0},
    "regularizer_kwargs_ranges": {"weight": {"type": "float", "low": 3e-4, "high": 5e-3, "log": True}},
    "loss_kwargs": {"margin": 0.0},
    "loss_kwargs_ranges": {
        "adversarial_temperature": {"type": "categorical", "choices": [0.5, 1.0, 2.0]},
    },
    "optimizer": "adagrad",
    "optimizer_kwargs_ranges": {"lr": {"type": "float", "low": 5e-2, "high": 3e-1, "log": True}},
}
# without PyKEEN's normalisation of entities: products of unit vectors are too small for a loss without a margin
_DISTMULT: dict[str, Any] = {
    **_COMPLEX,
    "model": "DistMult",
    "model_kwargs": {**_COMPLEX["model_kwargs"], "entity_constrainer": None},
}
_ROTATE: dict[str, Any] = {
    "model": "RotatE",
    "model_kwargs": {"embedding_dim": 64},
    "loss_kwargs": {},
    "loss_kwargs_ranges": {
        "margin": {"type": "categorical", "choices": [3.0, 6.0, 9.0, 12.0]},
        "adversarial_temperature": {"type": "categorical", "choices": [0.5, 1.0]},
    },
    "optimizer": "adam",
    "optimizer_kwargs_ranges": {"lr": {"type": "float", "low": 1e-3, "high": 5e-2, "log": True}},
}

#: Sparse graphs of many entities: a relation and its inverse are one rotation in RotatE, so that no inverse triples are
#: needed, which halves the time of an epoch
_SPARSE_ROTATE: dict[str, Any] = {
    **_ROTATE,
    "loss_kwargs_ranges": {
        "margin": {"type": "categorical", "choices": [3.0, 4.5, 6.0, 9.0]},
        "adversarial_temperature": {"type": "categorical", "choices": [0.5, 1.0]},
    },
    "epochs": 15,
    "batch_size": 1024,
    "inverse_triples": False,
}
#: The number of negatives of a recipe, unless its study says otherwise
NUM_NEGATIVES = 8

#: (data set, model) -> search space, epochs and batch size; epochs are short because two cores have to do
STUDIES: dict[str, dict[str, Any]] = {
    "umls-complex": {**_COMPLEX, "dataset": "UMLS", "epochs": 60, "batch_size": 256},
    "codexsmall-complex": {**_COMPLEX, "dataset": "CoDExSmall", "epochs": 20, "batch_size": 512},
    # a graph of a few exact rules, which may need less regularisation than the others
    "family-complex": {
        **_COMPLEX,
        "regularizer_kwargs_ranges": {"weight": {"type": "float", "low": 1e-5, "high": 5e-3, "log": True}},
        "dataset": "Family",
        "epochs": 40,
        "batch_size": 512,
    },
    "wn18rr-complex": {**_COMPLEX, "dataset": "WN18RR", "epochs": 20, "batch_size": 1024},
    "fb15k237-complex": {**_COMPLEX, "dataset": "FB15k237", "epochs": 8, "batch_size": 1024},
    "umls-rotate": {**_ROTATE, "dataset": "UMLS", "epochs": 60, "batch_size": 256},
    "kinships-complex": {**_COMPLEX, "dataset": "Kinships", "epochs": 60, "batch_size": 256},
    "kinships-rotate": {**_ROTATE, "dataset": "Kinships", "epochs": 60, "batch_size": 256},
    "codexsmall-rotate": {**_ROTATE, "dataset": "CoDExSmall", "epochs": 20, "batch_size": 512},
    "mkgw-rotate": {**_SPARSE_ROTATE, "dataset": "MKGW"},
    "mkgy-rotate": {**_SPARSE_ROTATE, "dataset": "MKGY"},
    "db15k-rotate": {**_SPARSE_ROTATE, "dataset": "DB15K"},
    # with the number of negatives of the paper of the two-way GAN
    "umls-complex-20": {**_COMPLEX, "dataset": "UMLS", "epochs": 60, "batch_size": 256, "num_negatives": 20},
    "umls-rotate-20": {**_ROTATE, "dataset": "UMLS", "epochs": 60, "batch_size": 256, "num_negatives": 20},
    "umls-distmult-20": {**_DISTMULT, "dataset": "UMLS", "epochs": 60, "batch_size": 256, "num_negatives": 20},
    "codexsmall-distmult-20": {
        **_DISTMULT,
        "dataset": "CoDExSmall",
        "epochs": 20,
        "batch_size": 512,
        "num_negatives": 20,
    },
}


def corrupted_sides(study: dict[str, Any]) -> list[str]:
    """Tell which sides need negatives: with inverse triples, heads are ranked as tails of the inverse relation."""
    return ["tail"] if study.get("inverse_triples", True) else ["head", "tail"]


def tune(name: str, *, trials: int, seed: int = 0) -> dict[str, Any]:
    """Run one study and return its record: the space, all trials, and the best parameters."""
    study = STUDIES[name]
    num_negatives = study.get("num_negatives", NUM_NEGATIVES)
    started = time.perf_counter()
    with fast_ranking():
        result = hpo_pipeline(
            dataset=study["dataset"],
            dataset_kwargs={"create_inverse_triples": study.get("inverse_triples", True)},
            model=study["model"],
            model_kwargs=study["model_kwargs"],
            model_kwargs_ranges={},
            loss="nssa",
            loss_kwargs=study["loss_kwargs"],
            loss_kwargs_ranges=study["loss_kwargs_ranges"],
            regularizer=study.get("regularizer"),
            regularizer_kwargs=study.get("regularizer_kwargs"),
            regularizer_kwargs_ranges=study.get("regularizer_kwargs_ranges"),
            optimizer=study["optimizer"],
            optimizer_kwargs={},
            optimizer_kwargs_ranges=study["optimizer_kwargs_ranges"],
            training_loop="slcwa",
            training_kwargs={
                "num_epochs": study["epochs"],
                "batch_size": study["batch_size"],
                "use_tqdm": False,
            },
            training_kwargs_ranges={},
            negative_sampler="basic",
            # with inverse triples, heads are ranked as tails of the inverse relation: only tails need negatives
            negative_sampler_kwargs={"num_negs_per_pos": num_negatives, "corruption_scheme": corrupted_sides(study)},
            negative_sampler_kwargs_ranges={},
            evaluation_kwargs={"use_tqdm": False},
            metric="mrr",
            direction="maximize",
            n_trials=trials,
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=4),
        )
    finished = [trial for trial in result.study.trials if trial.value is not None]
    best = max(finished, key=lambda trial: trial.value)
    return {
        "name": name,
        "study": study,
        "num_negs_per_pos": num_negatives,
        "negative_sampler": "basic",
        "metric": "validation both.realistic.inverse_harmonic_mean_rank",
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "best": {"value": best.value, "params": best.params},
        "trials": [{"value": trial.value, "params": trial.params} for trial in finished],
    }


@click.command()
@click.option("--only", multiple=True, type=click.Choice(sorted(STUDIES)), help="The studies to run (default: all).")
@click.option("--trials", type=int, default=12, show_default=True)
@click.option("--threads", type=int, default=1, show_default=True)
def main(only: tuple[str, ...], trials: int, threads: int) -> None:
    """Tune recipes for the basic sampler on validation triples."""
    logging.getLogger("pykeen").setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    TUNING.mkdir(parents=True, exist_ok=True)
    for name in only or STUDIES:
        record = tune(name, trials=trials)
        TUNING.joinpath(f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        click.echo(f"{name}: {record['best']}")


if __name__ == "__main__":
    main()
