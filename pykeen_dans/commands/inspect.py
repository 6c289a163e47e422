"""The command ``inspect``: train, and look at the negatives."""

from __future__ import annotations

import pathlib

import click
from tabulate import tabulate

from ..experiments import load_recipe, with_sampler
from ..inspection import negatives_frame
from .data import MODEL, load_default
from .group import main
from .options import data_options, dataset_option, epochs_option, negatives_option, seed_option
from .training import train

__all__ = [
    "inspect",
]


@main.command(
    epilog="""\b
Examples:
  pykeen-dans inspect --dataset umls
  pykeen-dans inspect --dataset umls --num-positives 5 --per-band 1"""
)
@dataset_option
@data_options
@epochs_option
@seed_option
@negatives_option
@click.option("--num-positives", type=click.IntRange(min=1), default=2, show_default=True, help="How many to look at.")
@click.option("--per-band", type=click.IntRange(min=1), default=2, show_default=True, help="Negatives of each band.")
def inspect(
    dataset: str | None,
    data_folder: pathlib.Path | None,
    offline: bool,
    epochs: int | None,
    seed: int,
    num_negatives: int | None,
    num_positives: int,
    per_band: int,
) -> None:
    """Train ComplEx with generated negatives, and list some of them."""
    name, data = load_default(dataset, data_folder=data_folder, offline=offline)
    recipe = load_recipe(f"{name}-{MODEL}")
    changed = with_sampler(
        recipe, "dans_kgc", callback="curriculum", num_negatives=num_negatives, epochs=epochs, seed=seed
    )
    run = train(changed, data)
    table = negatives_frame(run.result, num_positives=num_positives, per_band=per_band, against=data, seed=seed)
    click.echo(
        "\nEach row is a positive, and an entity that took the place of its head or tail. Band 0 is the easiest.\n"
        "The percentile is the share of entities that the trained model ranks higher.\n"
        "What is true by the validation or test triples is a false negative.\n"
    )
    table["band"] = table["band"].astype(object).where(table["band"].notna(), "")
    click.echo(tabulate(table.to_dict("list"), headers="keys", floatfmt=".3f"))
