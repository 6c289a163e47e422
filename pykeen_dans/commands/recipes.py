"""The commands ``recipes``: training configurations that come with the package."""

from __future__ import annotations

import json
import pathlib

import click
from pykeen.pipeline import pipeline
from tabulate import tabulate

from ..experiments import load_recipe, recipe_names, recipe_path
from .data import load_dataset, plain_name
from .group import main
from .options import data_options

__all__ = [
    "recipes",
]


@main.group()
def recipes() -> None:
    """List, show and run the training configurations of this package, in PyKEEN's JSON.

    Their hyper-parameters were tuned on validation triples.
    """


@recipes.command(
    name="list",
    epilog="""\b
Examples:
  pykeen-dans recipes list
  pykeen-dans recipes list --dataset umls""",
)
@click.option("--dataset", help="Only those of this data set.")
def list_recipes(dataset: str | None) -> None:
    """List all recipes: data set, model, loss, and by which negatives."""
    wanted = None if dataset is None else plain_name(dataset)
    rows = []
    for name in recipe_names():
        options = load_recipe(name)["pipeline"]
        if wanted in {None, options["dataset"]}:
            rows.append(
                {
                    "recipe": name,
                    "model": options["model"],
                    "loss": options["loss"],
                    "loop": options["training_loop"],
                    "sampler": options.get("negative_sampler", "-"),
                    "epochs": options["training_kwargs"]["num_epochs"],
                }
            )
    if not rows:
        names = sorted({load_recipe(name)["pipeline"]["dataset"] for name in recipe_names()})
        raise ValueError(f"--dataset={dataset} has no recipes; choose one of {', '.join(names)}.")
    click.echo(tabulate(rows, headers="keys"))


@recipes.command(epilog="\b\nExample:\n  pykeen-dans recipes show umls-complex-crossentropy")
@click.argument("name")
def show(name: str) -> None:
    """Show the JSON of the recipe NAME."""
    click.echo(json.dumps(load_recipe(name), indent=2))


@recipes.command(
    epilog="""\b
Example:
  pykeen experiments run $(pykeen-dans recipes path umls-complex) -d OUT"""
)
@click.argument("name")
def path(name: str) -> None:
    """Tell the file of the recipe NAME, for PyKEEN's commands."""
    click.echo(recipe_path(name))


@recipes.command(
    epilog="""\b
Examples:
  pykeen-dans recipes run umls-complex-crossentropy
  pykeen-dans recipes run codexsmall-complex --epochs 5 --output OUT"""
)
@click.argument("name")
@click.option("--epochs", type=click.IntRange(min=1), help="The number of epochs. [default: the recipe's]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The random seed.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    help="A folder for the model and its results, as PyKEEN saves them. [default: nothing is saved]",
)
@data_options
def run(
    name: str,
    epochs: int | None,
    seed: int,
    output: pathlib.Path | None,
    data_folder: pathlib.Path | None,
    offline: bool,
) -> None:
    """Train by the recipe NAME, and tell how good the model is."""
    options = load_recipe(name)["pipeline"]
    inverse = options.pop("dataset_kwargs")["create_inverse_triples"]
    dataset = load_dataset(options.pop("dataset"), inverse=inverse, data_folder=data_folder, offline=offline)
    options["random_seed"] = seed
    if epochs is not None:
        options["training_kwargs"]["num_epochs"] = epochs
    options["training_kwargs"]["use_tqdm_batch"] = False
    result = pipeline(**options, dataset=dataset, evaluation_kwargs={"batch_size": 256})
    figures = ("mrr", "hits_at_1", "hits_at_3", "hits_at_10")
    row = {figure: result.get_metric(figure) for figure in figures} | {"seconds": round(result.train_seconds, 1)}
    click.echo(tabulate([row], headers="keys", floatfmt=".3f"))
    if output is not None:
        result.save_to_directory(output)
        click.echo(f"The model and its results are in {output}.")
