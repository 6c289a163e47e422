"""Options that several commands have, each told once."""

from __future__ import annotations

import click

from .data import DATASETS, DEFAULT, FALLBACK

__all__ = [
    "dataset_option",
    "epochs_option",
    "negatives_option",
    "seed_option",
]

dataset_option = click.option(
    "--dataset",
    type=click.Choice(DATASETS, case_sensitive=False),
    help=f"The data set. [default: {DEFAULT}, or {FALLBACK} where it cannot be downloaded]",
)
epochs_option = click.option(
    "--epochs", type=click.IntRange(min=1), help="The number of epochs. [default: the recipe's]"
)
seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The random seed.")
negatives_option = click.option(
    "--num-negatives",
    type=click.IntRange(min=1),
    help="The number of negatives for each positive. [default: the recipe's]",
)
