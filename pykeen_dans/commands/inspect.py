"""The command ``inspect``: train, and look at the negatives."""

from __future__ import annotations

import pathlib

import click
import torch
from pykeen.datasets import Dataset
from tabulate import tabulate

from ..experiments import load_recipe, with_sampler
from ..inspection.diagnostics import as_trained, negatives_table
from ..sampling.base import GeneratedNegativeSampler
from .data import MODEL, held_out_triples, load_default
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
    assert isinstance(run.sampler, GeneratedNegativeSampler)
    triples = as_trained(data.training)
    generator = torch.Generator().manual_seed(seed)
    table = negatives_table(
        run.sampler,
        triples[torch.randperm(len(triples), generator=generator)[:num_positives]],
        **_labels(data),
        held_out=held_out_triples(data),
        model=run.result.model,
        per_band=per_band,
        seed=seed,
    )
    if table.empty:
        raise click.ClickException("Nothing was generated for these positives; raise --epochs or --num-positives.")
    click.echo(
        "\nEach row is a positive, and an entity that took the place of its head or tail. Band 0 is the easiest.\n"
        "The percentile is the share of entities that the trained model ranks higher.\n"
        "What is true by the validation or test triples is a false negative.\n"
    )
    click.echo(tabulate(table.to_dict("list"), headers="keys", floatfmt=".3f"))


def _labels(dataset: Dataset) -> dict[str, list[str]]:
    """Get the labels of entities, and those of relations in the ids of training."""
    entities, relations = (
        [label for label, _ in sorted(mapping.items(), key=lambda item: item[1])]
        for mapping in (dataset.entity_to_id, dataset.relation_to_id)
    )
    if dataset.training.create_inverse_triples:
        relations = [name for label in relations for name in (label, f"{label} (inverse)")]
    return {"entity_labels": entities, "relation_labels": relations}
