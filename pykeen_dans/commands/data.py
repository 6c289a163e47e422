"""Data sets for commands."""

from __future__ import annotations

import logging
import socket

import click
import torch
from pykeen.datasets import Dataset, get_dataset
from pykeen.typing import MappedTriples

from ..experiments import load_recipe, recipe_names
from ..inspection.diagnostics import as_trained

__all__ = [
    "DATASETS",
    "DEFAULT",
    "FALLBACK",
    "MODEL",
    "SHARED_RECIPE",
    "held_out_triples",
    "load_dataset",
]

logger = logging.getLogger(__name__)

#: The data set of the demonstration, and the one that ships with PyKEEN, where the first cannot be downloaded
DEFAULT, FALLBACK = "codexsmall", "umls"
MODEL = "complex"
#: The recipes of the loops that share negatives end in the loss that they were tuned for
SHARED_RECIPE = "-crossentropy"
DATASETS = [
    name.removesuffix(f"-{MODEL}{SHARED_RECIPE}")
    for name in recipe_names()
    if name.endswith(f"-{MODEL}{SHARED_RECIPE}")
]
#: How long to wait for a server that does not answer
_TIMEOUT_SECONDS = 20.0


def load_dataset(name: str | None) -> tuple[str, Dataset]:
    """Load a data set; without a name, the demonstration's, or else one that needs no download."""
    chosen = name or DEFAULT
    try:
        return chosen, _get_dataset(chosen)
    # failures of the network (URLError, PyStow's DownloadError, time-outs) are subclasses of it, and so is a full disk
    except OSError as error:
        if name is not None:
            raise click.ClickException(
                f"--dataset={name} cannot be downloaded ({error}); check the network, or use --dataset={FALLBACK}, "
                f"which ships with PyKEEN."
            ) from error
        click.secho(
            f"{DEFAULT} cannot be downloaded ({error}): using {FALLBACK} instead, which ships with PyKEEN.",
            fg="yellow",
            err=True,
        )
        return FALLBACK, _get_dataset(FALLBACK)


def _get_dataset(name: str) -> Dataset:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        dataset = get_dataset(dataset=name, dataset_kwargs=load_recipe(f"{name}-{MODEL}")["pipeline"]["dataset_kwargs"])
        # some data sets are loaded when they are used first
        logger.info("%s", dataset.summary_str())
        return dataset
    finally:
        socket.setdefaulttimeout(before)


def held_out_triples(dataset: Dataset) -> MappedTriples:
    """Get the triples of validation and test, in the ids of training."""
    others = [factory.mapped_triples for factory in (dataset.validation, dataset.testing) if factory is not None]
    return as_trained(dataset.training, torch.cat(others))
