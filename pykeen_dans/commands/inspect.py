"""The command ``inspect``: look at the negatives of a training, or of a model that was saved."""

from __future__ import annotations

import pathlib
from typing import Any

import click
import pandas as pd
import torch
from pykeen.datasets import Dataset
from pykeen.models import model_resolver
from pykeen.sampling import negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import MappedTriples
from tabulate import tabulate

from ..inspection import Subject, describe, negatives_frame, subject_of
from ..utils.tables import check_suffix, read_names, write_table
from ..utils.triples import labels_of
from ..utils.validation import lookup_by_name, unknown_name
from .data import load_dataset, load_default
from .group import main
from .options import data_options, epochs_option, negatives_option, seed_option
from .training import train
from .ways import Way, base_of, configure, parse_way

__all__ = [
    "inspect",
]

#: What columns are called where they have to be narrow
_SHORT = {
    **{"percentile": "median", "percentile_25": "25 %", "percentile_75": "75 %", "acceptance": "accepted"},
    **{"known": "training", "false_validation": "validation", "false_testing": "testing"},
}


@main.command(
    epilog="""\b
Examples:
  pykeen-dans inspect --dataset umls
  pykeen-dans inspect dans-kgc --dataset umls --relation affects --num-positives 5
  pykeen-dans inspect bernoulli --triples own.tsv --model rotate --export negatives.csv
  pykeen-dans inspect --dataset codexsmall --labels entities.json
  pykeen-dans inspect sampler:dans_kgc --directory saved --trust --dataset umls"""
)
@click.argument("way", default="sampler:dans_kgc")
@click.option("--dataset", "--triples", "dataset", help="A name, a file of triples, or a folder of three.")
@data_options
@click.option(
    "--directory",
    type=click.Path(path_type=pathlib.Path),
    help="A result that PyKEEN has saved, to look at negatives of its model rather than train one.",
)
@click.option("--trust", is_flag=True, help="Read the model of --directory, a pickle, which can run any code.")
@click.option("--model", default="complex", show_default=True, help="The model to train.")
@click.option("--embedding-dim", type=click.IntRange(min=1), help="The dimension. [default: the recipe's, or 64]")
@epochs_option
@seed_option
@negatives_option
@click.option("--relation", help="Look at positives of this relation only.")
@click.option("--entity", help="Look at positives of this entity only.")
@click.option("--num-positives", type=click.IntRange(min=1), default=2, show_default=True, help="How many to look at.")
@click.option("--per-band", type=click.IntRange(min=1), default=2, show_default=True, help="Negatives of each band.")
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path),
    help="Readable names of labels: .json, or .tsv or .csv with a label and a name in each line.",
)
@click.option(
    "--export",
    type=click.Path(dir_okay=False, writable=True, path_type=pathlib.Path),
    help="Write the negatives of all training triples, --per-band of each, as .csv, .tsv or .parquet. The sampler "
    "'fixed' reads it.",
)
def inspect(
    way: str,
    dataset: str | None,
    data_folder: pathlib.Path | None,
    offline: bool,
    directory: pathlib.Path | None,
    trust: bool,
    model: str,
    embedding_dim: int | None,
    epochs: int | None,
    seed: int,
    num_negatives: int | None,
    relation: str | None,
    entity: str | None,
    num_positives: int,
    per_band: int,
    labels: pathlib.Path | None,
    export: pathlib.Path | None,
) -> None:
    """Train with WAY, tell what its negatives are, and list some of them.

    A way is the name of a sampler or of a training loop, and may have options: basic,filtered=true. A name of both, as
    dans-kgc, is that of the loop, unless it is written sampler:dans_kgc, which is the default.
    """
    chosen = parse_way(way)
    if export is not None:
        _check_export(export)
    data: Dataset | None = None
    subject: Subject | None = None
    recipe: dict[str, Any] = {}
    if directory is not None:
        data = None if dataset is None else load_dataset(dataset, data_folder=data_folder, offline=offline)
        subject = _saved(directory, chosen, trust=trust, num_negatives=num_negatives)
        factory = subject.triples_factory
    else:
        lookup_by_name("--model", model_resolver, model)
        if not issubclass(chosen.loop, SLCWATrainingLoop):
            raise ValueError(f"{way} draws no negatives; choose a sampler, or a loop that draws some.")
        name, data = load_default(dataset, data_folder=data_folder, offline=offline)
        base = base_of(None, dataset=name, model=model)
        _, recipe = configure(chosen, base, epochs=epochs, num_negatives=num_negatives, embedding_dim=embedding_dim)
        factory = data.training
    # what is wrong is told before the training
    positives = _select(factory, relation=relation, entity=entity, size=num_positives, seed=seed)
    names = None if labels is None else _names(labels, factory)
    if subject is None and data is not None:
        subject = subject_of(train({"pipeline": {**recipe, "random_seed": seed}}, data).result)
    assert subject is not None
    options: dict[str, Any] = {"against": data, "seed": seed}
    _show(subject, positives, per_band=per_band, names=names, **options)
    if export is not None:
        frame = negatives_frame(subject, num_positives=None, per_band=per_band, **options)
        write_table("--export", frame, export)
        click.echo(f"\n{len(frame)} negatives are in {export}. Train with them by negative_sampler='fixed'.")


def _show(subject: Subject, positives: MappedTriples, **options: Any) -> None:
    """Print what the negatives are, and some of them."""
    table = negatives_frame(subject, positives, **options)
    summary = describe(subject, against=options["against"], seed=options["seed"])
    click.echo("\nAll that training draws, what it comes from, and the bands of hardness, from easy to hard:\n")
    click.echo(_written(summary.rename(columns=_SHORT)))
    click.echo(
        f"\nNegatives of {len(positives)} positives, by the side that they take. The percentile is the share of\n"
        f"entities that the model ranks higher, so that 0 is the hardest, and 0.5 is chance. A negative that is\n"
        f"true by validation or test triples is a false one.\n"
    )
    flags = [name for name in table.columns if name == "known" or name.startswith("false_")]
    names = {name: "training" if name == "known" else name.removeprefix("false_") for name in flags}
    true_by = [", ".join(names[name] for name in flags if row[name]) for _, row in table[flags].iterrows()]
    click.echo(_written(table.drop(columns=flags).assign(**{"true by": true_by})))


def _check_export(path: pathlib.Path) -> None:
    """Find out before the training whether its negatives can be written."""
    check_suffix("--export", path)
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(f"{path}: the folder does not exist; make it first.", param_hint="--export")


def _saved(directory: pathlib.Path, way: Way, *, trust: bool, num_negatives: int | None) -> Subject:
    """Get a model that was saved, and a sampler for it."""
    known = {
        *negative_sampler_resolver.lookup_dict,
        *map(negative_sampler_resolver.normalize, negative_sampler_resolver.synonyms),
    }
    if negative_sampler_resolver.normalize(way.name) not in known:
        raise ValueError(f"{way.label} is a training loop, and with --directory nothing is trained; choose a sampler.")
    kwargs = way.options if num_negatives is None else {"num_negs_per_pos": num_negatives, **way.options}
    return subject_of(directory, trust=trust, negative_sampler=way.name, negative_sampler_kwargs=kwargs)


def _select(
    factory: CoreTriplesFactory, *, relation: str | None, entity: str | None, size: int, seed: int
) -> MappedTriples:
    """Choose some of the training triples."""
    entity_to_id, relation_to_id = labels_of(factory)
    triples = factory.mapped_triples
    for option, label, label_to_id, columns in (
        ("--relation", relation, relation_to_id, [1]),
        ("--entity", entity, entity_to_id, [0, 2]),
    ):
        if label is None:
            continue
        if label_to_id is None:
            label_to_id = {str(number): number for number in triples[:, columns].unique().tolist()}
        if label not in label_to_id:
            raise unknown_name(option, label, label_to_id)
        triples = triples[(triples[:, columns] == label_to_id[label]).any(dim=1)]
    if len(triples) == 0:
        raise ValueError(
            f"--relation={relation} and --entity={entity} leave none of {factory.num_triples} training triples; "
            f"leave one of them out."
        )
    return triples[torch.randperm(len(triples), generator=torch.Generator().manual_seed(seed))[:size]]


def _names(path: pathlib.Path, factory: CoreTriplesFactory) -> dict[str, str]:
    """Read readable names, and check that they are of these labels."""
    names = read_names("--labels", path)
    labels = [label for each in labels_of(factory) for label in each or ()]
    if not set(names) & set(labels):
        raise ValueError(
            f"--labels={path} has {len(names)} names, none of them of a label of the data; it has "
            f"{next(iter(names), '')!r}, and the data has {next(iter(labels), '')!r}."
        )
    return names


def _written(table: pd.DataFrame) -> str:
    """Write a table, with readable names in the place of labels, and nothing where there is nothing."""
    for column in [column for column in table.columns if f"{column}_name" in table.columns]:
        table = table.drop(columns=column).rename(columns={f"{column}_name": column})
    table = table.dropna(axis="columns", how="all")
    columns = {
        name: ["" if pd.isna(value) else value for value in table[name].astype(object)] for name in table.columns
    }
    return tabulate(columns, headers="keys", floatfmt=".3f")
