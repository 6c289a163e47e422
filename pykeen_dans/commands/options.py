"""Options that several commands have, each told once."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import click

from .data import DATASETS, DEFAULT, FALLBACK

__all__ = [
    "data_options",
    "dataset_option",
    "epochs_option",
    "negatives_option",
    "seed_option",
]

F = TypeVar("F", bound=Callable[..., Any])

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


def data_options(command: F) -> F:
    """Add where data sets come from.

    :param command: a function with the parameters ``data_folder`` and ``offline``

    :returns: the function
    """
    folder = click.option(
        "--data-folder",
        type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path),
        envvar="PYKEEN_DANS_DATA",
        show_envvar=True,
        help="A folder of data sets, each in a folder of its name with train, valid and test as .txt or .tsv, packed "
        "or not. It goes before PyKEEN's.",
    )
    offline = click.option("--offline", is_flag=True, help="Download nothing.")
    return folder(offline(command))
