"""The command ``export``: negatives for a training on many machines."""

from __future__ import annotations

import pathlib

import click
from pykeen.triples import TriplesFactory

from ..inspection.graphstorm import write_graphstorm
from ..inspection.negatives import negatives_frame
from ..inspection.subject import subject_of
from .group import main

__all__ = [
    "export",
]


@main.command(
    epilog="""\b
Examples:
  pykeen-dans export negatives.csv graphstorm
  pykeen-dans export run graphstorm --trust --negative-sampler dans_kgc --inverse"""
)
@click.argument("source", type=click.Path(exists=True, path_type=pathlib.Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=pathlib.Path))
@click.option("--inverse", is_flag=True, help="Write each relation from tail to head, too, with negative heads.")
@click.option("--negative-sampler", default="dans_kgc", show_default=True, help="What makes negatives for a model.")
@click.option("--per-band", type=click.IntRange(min=1), help="Negatives of each band. [default: all in the bank]")
@click.option("--trust", is_flag=True, help="Read the model of a directory, a pickle, which can run any code.")
def export(
    source: pathlib.Path, folder: pathlib.Path, inverse: bool, negative_sampler: str, per_band: int | None, trust: bool
) -> None:
    """Write hard negatives of SOURCE into FOLDER, as GraphStorm reads them.

    SOURCE is a table of negatives (.csv, .tsv or .parquet, see negatives_frame), or a directory that PyKEEN has saved,
    for whose model negatives are made.
    """
    if source.is_dir():
        subject = subject_of(source, negative_sampler=negative_sampler, trust=trust)
        factory = subject.triples_factory
        if not isinstance(factory, TriplesFactory):
            raise ValueError(f"source={str(source)!r} has triples without labels; save the training triples with them.")
        frame = negatives_frame(subject, num_positives=None, per_band=per_band)
        path = write_graphstorm(frame, folder, triples=factory.triples, inverse=inverse)
    else:
        path = write_graphstorm(source, folder, inverse=inverse)
    click.echo(
        f"Wrote {path}. Build the graph by\n"
        f"  python -m graphstorm.gconstruct.construct_graph --conf-file {path} --output-dir GRAPH --num-parts N "
        f"--graph-name NAME\n"
        f"and put {folder / 'train.yaml'} into the configuration of the training."
    )
