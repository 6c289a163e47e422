"""Quality at equal budget: the same recipe, number of negatives and epochs, other negatives.

Each row is one training: the recipe that was tuned for the basic sampler (see ``tune.py``), a variant of the sampler, a
seed. Rows are JSON lines, so that an interrupted run is resumed; ``tables.py`` makes the tables of them.
Nothing is selected on test triples, which are ranked once, after the last epoch.

    python benchmarks/quality.py --only codexsmall-complex --seeds 5
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import pathlib
import platform
import resource
import time
from collections.abc import Iterator
from typing import Any

import click
import torch
from oracle import OracleTrainingCallback
from pykeen.datasets import get_dataset
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.sampling import negative_sampler_resolver

from pykeen_dans.callbacks import CurriculumTrainingCallback
from pykeen_dans.diagnostics import as_trained, describe_negatives
from pykeen_dans.experiments import load_recipe, with_sampler

HERE = pathlib.Path(__file__).parent.resolve()
ROWS = HERE.joinpath("results", "quality.jsonl")

#: name -> sampler, number of negatives, and its further arguments
VARIANTS: dict[str, dict[str, Any]] = {
    "basic": {"sampler": "basic"},
    "live": {"sampler": "diffusionadaptive", "callback": CurriculumTrainingCallback},
    "noise": {
        "sampler": "diffusionadaptive",
        "callback": CurriculumTrainingCallback,
        "sampler_kwargs": {"trained": False},
    },
    "oracle": {"sampler": "diffusionadaptive", "callback": OracleTrainingCallback},
    "alone": {"sampler": "diffusionadaptive"},
    "share-0": {"sampler": "diffusionadaptive", "sampler_kwargs": {"curriculum_kwargs": {"share": 0.0}}},
    "basic-64": {"sampler": "basic", "num_negatives": 64},
    "no-dam": {
        "sampler": "diffusionadaptive",
        "callback": CurriculumTrainingCallback,
        "sampler_kwargs": {"difficulty": "constant"},
    },
    "no-ccd": {
        "sampler": "diffusionadaptive",
        "callback": CurriculumTrainingCallback,
        "sampler_kwargs": {"conditioned": False},
    },
    "constant-share": {
        "sampler": "diffusionadaptive",
        "callback": CurriculumTrainingCallback,
        "sampler_kwargs": {"curriculum_kwargs": {"share": 0.25}},
    },
    "no-dtm": {
        "sampler": "diffusionadaptive",
        "callback": CurriculumTrainingCallback,
        "sampler_kwargs": {"curriculum": "constant"},
    },
    "growing-share": {
        "sampler": "diffusionadaptive",
        "callback": CurriculumTrainingCallback,
        "sampler_kwargs": {"curriculum_kwargs": {"share": [0.0, 0.5]}},
    },
    "reversed": {
        "sampler": "diffusionadaptive",
        "callback": CurriculumTrainingCallback,
        # the phase falls, so that the share falls with it as by default
        "sampler_kwargs": {"curriculum": "reversed", "curriculum_kwargs": {"share": [0.0, 0.5]}},
    },
}

METRICS = {
    "mrr": "both.realistic.inverse_harmonic_mean_rank",
    "hits_at_1": "both.realistic.hits_at_1",
    "hits_at_10": "both.realistic.hits_at_10",
}


def run(recipe: str, variant: str, seed: int) -> dict[str, Any]:
    """Train once and return the row."""
    options = VARIANTS[variant]
    configuration = with_sampler(
        load_recipe(recipe), options["sampler"], num_negatives=options.get("num_negatives"), seed=seed
    )["pipeline"]
    if "sampler_kwargs" in options:
        configuration["negative_sampler_kwargs"].update(options["sampler_kwargs"])
    callback = options["callback"]() if "callback" in options else None
    configuration["training_kwargs"].pop("callbacks", None)
    configuration["training_kwargs"].update(callbacks=callback, use_tqdm=False)
    configuration["random_seed"] = seed
    configuration.update(result_tracker="python", use_tqdm=False)
    started = time.perf_counter()
    result = pipeline(**configuration, evaluation_kwargs={"use_tqdm": False})
    row = {
        "recipe": recipe,
        "variant": variant,
        "seed": seed,
        "num_negatives": configuration["negative_sampler_kwargs"]["num_negs_per_pos"],
        "num_epochs": configuration["training_kwargs"]["num_epochs"],
        **{name: result.get_metric(key) for name, key in METRICS.items()},
        "loss": result.losses[-1],
        "train_seconds": result.train_seconds,
        "total_seconds": time.perf_counter() - started,
        "overhead_seconds": getattr(callback, "overhead_seconds", 0.0),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "device": str(result.model.device),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("pykeen", "torch", "pykeen-dans")},
    }
    if callback is not None:
        row["bands"] = describe_bands(configuration, result)
    if isinstance(callback, OracleTrainingCallback):
        row["refresh_seconds"] = callback.refresh_seconds
    return row


def describe_bands(configuration: dict[str, Any], result: PipelineResult) -> list[dict[str, float]]:
    """Tell of each band of the last bank how hard it was, and how much of it was true.

    :param configuration: the configuration of the training
    :param result: its result

    :returns: for each band the median percentile under the trained model, the share of known answers in training, and
        that of validation and test triples
    """
    dataset = get_dataset(dataset=configuration["dataset"], dataset_kwargs=configuration.get("dataset_kwargs"))
    loop = result.training_loop
    # a sampler like the one in training, with the same coupling and so with the same bank
    sampler = negative_sampler_resolver.make(
        loop.negative_sampler,
        loop.negative_sampler_kwargs,
        mapped_triples=as_trained(dataset.training),
        num_entities=dataset.training.num_entities,
        num_relations=dataset.training.num_relations,
    )
    held_out = [factory.mapped_triples for factory in (dataset.validation, dataset.testing)]
    report = describe_negatives(
        sampler,
        mapped_triples=as_trained(dataset.training),
        held_out=as_trained(dataset.training, torch.cat(held_out)),
        model=result.model,
    )
    return [{"percentile": band.hardness, "known": band.known, "held_out": band.held_out} for band in report.bands]


def done() -> set[tuple[str, str, int]]:
    """List the rows that are there already."""
    if not ROWS.is_file():
        return set()
    rows = (json.loads(line) for line in ROWS.read_text().splitlines())
    return {(row["recipe"], row["variant"], row["seed"]) for row in rows}


def plan(recipes: tuple[str, ...], variants: tuple[str, ...], seeds: list[int]) -> Iterator[tuple[str, str, int]]:
    """Order the rows, variants innermost, so that whatever the machine does hits all of them alike."""
    for recipe in recipes:
        for seed in seeds:
            for variant in variants:
                yield recipe, variant, seed


@click.command()
@click.option("--only", multiple=True, required=True, help="The recipes to run.")
@click.option("--variant", "variants", multiple=True, type=click.Choice(sorted(VARIANTS)), default=("basic", "live"))
@click.option("--seeds", type=int, default=5, show_default=True, help="The number of seeds.")
@click.option("--first-seed", type=int, default=1, show_default=True, help="Tuning used seed 0.")
@click.option("--threads", type=int, default=1, show_default=True)
def main(only: tuple[str, ...], variants: tuple[str, ...], seeds: int, first_seed: int, threads: int) -> None:
    """Train and rank, and append a row for each training."""
    logging.getLogger("pykeen").setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    for key in plan(only, variants, list(range(first_seed, first_seed + seeds))):
        if key in done():
            continue
        row = run(*key)
        with ROWS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        click.echo(f"{key}: MRR {row['mrr']:.4f} in {row['train_seconds']:.1f} s")


if __name__ == "__main__":
    main()
