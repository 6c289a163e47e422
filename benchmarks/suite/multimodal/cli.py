"""The command ``multimodal`` of the suite."""

from __future__ import annotations

import json
import logging
import pathlib
from collections.abc import Sequence

import click
import torch

from ..rows import default_folder
from ..training import quiet
from . import epochs as costs
from . import generator as generators
from . import quality as trainings

__all__ = [
    "multimodal",
]

_FOLDER = click.Path(file_okay=False, path_type=pathlib.Path)
_texts = click.option(
    "--texts",
    type=click.Path(file_okay=False, exists=True, path_type=pathlib.Path),
    required=True,
    help="The folder with <data set>/entity_text.tsv.xz, tables of labels and texts.",
)
_output = click.option("--output", type=_FOLDER, default=default_folder, help="The folder of the result files.")


@click.group()
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def multimodal(threads: int) -> None:
    """Measure what dhns is worth with texts."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("suite").setLevel(logging.INFO)
    quiet()
    torch.set_num_threads(threads)


@multimodal.command()
@_texts
@click.option("--only", multiple=True, type=click.Choice(trainings.RECIPES), default=trainings.RECIPES)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=click.Choice(list(trainings.VARIANTS)),
    default=("basic", "dhns-text", "dhns", "dhns-noise"),
    show_default=True,
)
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="The number of seeds.")
@click.option("--first-seed", type=int, default=1, show_default=True, help="Tuning used seed 0.")
@click.option("--validation", is_flag=True, help="Rank validation triples.")
@_output
def quality(
    texts: pathlib.Path,
    only: Sequence[str],
    variants: Sequence[str],
    seeds: int,
    first_seed: int,
    validation: bool,
    output: pathlib.Path,
) -> None:
    """Train and rank, a row for each training."""
    wanted = range(first_seed, first_seed + seeds)
    trainings.execute(only, variants, wanted, output, texts=texts, validation=validation)


@multimodal.command()
@click.option("--dataset", type=click.Choice(list(trainings.FOLDERS)), required=True)
@click.option(
    "--texts",
    type=click.Path(file_okay=False, exists=True, path_type=pathlib.Path),
    help="The folder of the tables of texts; without, there is the structural level alone.",
)
@click.option("--preset", default="working", show_default=True)
@click.option("--steps", type=int, default=1000, show_default=True, help="The number of training steps.")
@click.option("--dim", type=int, default=64, show_default=True, help="The dimension of RotatE.")
@click.option("--epochs", type=int, default=5, show_default=True, help="Epochs of RotatE; 0: reference embedding.")
@_output
def generator(
    dataset: str, texts: pathlib.Path | None, preset: str, steps: int, dim: int, epochs: int, output: pathlib.Path
) -> None:
    """Train a generator, and measure what it has learned."""
    row = generators.execute(output, dataset=dataset, texts=texts, preset=preset, steps=steps, dim=dim, epochs=epochs)
    click.echo(json.dumps(row, indent=1))


@multimodal.command()
@_texts
@click.option("--epochs", type=click.IntRange(min=1), default=2, show_default=True)
@_output
def cost(texts: pathlib.Path, epochs: int, output: pathlib.Path) -> None:
    """Measure what an epoch costs."""
    costs.execute(output, texts=texts, epochs=epochs)
