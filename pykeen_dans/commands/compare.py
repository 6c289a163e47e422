"""The command ``compare``: several samplers and training loops on one data set, over seeds."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import pathlib
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import click
import torch
from pykeen.datasets import Dataset, dataset_resolver
from pykeen.losses import loss_resolver
from pykeen.models import model_resolver
from tabulate import tabulate
from tqdm.auto import tqdm

from ..reporting.closer import closer_look
from ..reporting.records import Record, digest_of, read_record
from ..reporting.statistics import Row, summarise
from ..utils.validation import lookup_by_name
from ..version import VERSION
from .data import load_dataset
from .group import INTERRUPTED, main
from .options import data_options
from .training import train
from .ways import Base, Way, base_of, configure, parse_way

__all__ = [
    "compare",
]

logger = logging.getLogger(__name__)

_METRICS = ("mrr", "hits_at_1", "hits_at_3", "hits_at_10")


@main.command(
    epilog="""\b
Examples:
  pykeen-dans compare --dataset umls --model complex
  pykeen-dans compare basic shared-negatives dans-kgc --recipe umls-complex --seeds 3
  pykeen-dans compare basic sampler:dans_kgc --dataset own.tsv --model rotate --json
  pykeen-dans compare shared-negatives,num_shared=64 shared-negatives --dataset codexsmall
"""
)
@click.argument("ways", nargs=-1)
@click.option("--dataset", help="A name, a file of triples, or a folder of three. [default: the recipe's]")
@data_options
@click.option("--model", "models", multiple=True, help="A model; may be repeated. [default: the recipe's, or complex]")
@click.option("--recipe", help="A recipe to begin with. [default: that of data set and model, where there is one]")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How many seeds, from 0 on.")
@click.option("--epochs", type=click.IntRange(min=1), help="The number of epochs. [default: the recipe's, or 20]")
@click.option("--loss", help="The loss of all ways. [default: the recipe's; cross entropy for loops over all entities]")
@click.option("--num-negatives", type=click.IntRange(min=1), help="Negatives of each positive. [default: the recipe's]")
@click.option("--embedding-dim", type=click.IntRange(min=1), help="The dimension. [default: the recipe's, or 64]")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    default=pathlib.Path("pykeen-dans-compare"),
    show_default=True,
    help="The folder of records. Trainings that it has already are not repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON rather than a table.")
def compare(
    ways: Sequence[str],
    dataset: str | None,
    data_folder: pathlib.Path | None,
    offline: bool,
    models: Sequence[str],
    recipe: str | None,
    seeds: int,
    output: pathlib.Path,
    as_json: bool,
    **changes: Any,
) -> None:
    """Train with each of WAYS, and compare them.

    A way is the name of a training loop or of a sampler, and may have options: shared-negatives,num_shared=64. A name
    of both, as dans-kgc, is that of the loop, unless it is written sampler:dans_kgc. Without any, uniform and shared
    negatives are compared, and those with generated candidates on top.

    Where there are recipes, each way has the hyper-parameters that were tuned for its kind of loss. Differences are
    paired by seed, to the first way. Show the folder by: pykeen-dans report FOLDER.
    """
    chosen = [parse_way(each) for each in ways or ("basic", "shared-negatives", "dans-kgc")]
    if recipe is not None and models:
        raise click.UsageError("--recipe brings its model; leave out --model.")
    if recipe is None and dataset is None:
        raise click.UsageError("--dataset is missing; give a name, a path, or a --recipe.")
    if changes["loss"] is not None:
        lookup_by_name("--loss", loss_resolver, changes["loss"])
    for model in models:
        lookup_by_name("--model", model_resolver, model)
    bases = [base_of(recipe, dataset=dataset, model=each) for each in models or ("complex",)]
    data = load_dataset(
        dataset or str(bases[0].dataset), inverse=bases[0].inverse, data_folder=data_folder, offline=offline
    )
    jobs = [(base, way, seed) for base in bases for seed in range(seeds) for way in chosen]
    finished: list[Record] = []
    interrupted = False
    try:
        for base, way, seed in (bar := tqdm(jobs, desc="Trainings", unit="training")):
            bar.set_postfix_str(f"{base.model}, {way.label}, seed {seed}")
            finished.append(_train_or_find(way, base, seed, data, output, changes))
    except KeyboardInterrupt:
        interrupted = True
    # as they were asked for, rather than as they were trained
    order = {way.label: number for number, way in enumerate(chosen)}
    rows = summarise(sorted(finished, key=lambda record: order[record.label]))
    if as_json:
        content = {"folder": str(output), "complete": not interrupted, "rows": [row.as_json() for row in rows]}
        click.echo(json.dumps(content, indent=1))
    else:
        click.echo(f"\n{_name(data)}, test triples, filtered ranks; differences to the first, 95 % confidence:\n")
        click.echo(_table(rows))
        click.echo(f"\nRecords are in {output}; see them by: pykeen-dans report {output}")
    if interrupted:
        click.echo(f"Interrupted: {len(finished)} of {len(jobs)} trainings; the same command goes on.", err=True)
        click.get_current_context().exit(INTERRUPTED)


def _name(data: Dataset) -> str:
    """Tell the name of a data set: of its class, or of its file."""
    name = str((data.metadata or {}).get("name", type(data).__name__))
    return dataset_resolver.lookup_dict[name].__name__ if name in dataset_resolver.lookup_dict else name


def _train_or_find(
    way: Way, base: Base, seed: int, data: Dataset, folder: pathlib.Path, changes: dict[str, Any]
) -> Record:
    """Get the record of a training from the folder, or else train, and put it there."""
    recipe, pipeline = configure(way, base, **changes)
    pipeline["dataset"] = _name(data)
    pipeline["random_seed"] = seed
    training, testing = data.training.mapped_triples, data.testing.mapped_triples
    record = Record(
        label=way.label,
        model=model_resolver.lookup(base.model).__name__,
        seed=seed,
        digest=digest_of(pipeline, training=training, testing=testing),
        dataset={
            "name": _name(data),
            "num_entities": data.num_entities,
            "num_relations": data.training.real_num_relations,
            "num_triples": data.training.num_triples,
        },
        pipeline=pipeline,
        recipe=recipe,
        metrics={},
        curve={},
    )
    path = folder / record.file_name
    if path.is_file():
        try:
            return read_record(path)
        except ValueError as error:
            logger.warning("%s It is made anew.", error)
    run = train({"pipeline": pipeline}, data)
    record = dataclasses.replace(
        record,
        metrics={name: float(run.result.get_metric(name)) for name in _METRICS},
        curve=vars(run.curve),
        tracked=run.tracked,
        environment=_environment(),
    )
    # whatever becomes of the rest, the training is not lost
    record.write(folder)
    try:
        record = dataclasses.replace(record, **closer_look(run.result, data, seed=seed))
    except (ValueError, NotImplementedError) as error:
        logger.warning("%s has no figures of its negatives: %s", way.label, error)
    record.write(folder)
    return record


def _environment() -> dict[str, Any]:
    """Tell the versions, and where it was trained."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    versions = {name: version(name) for name in ("pykeen", "torch")}
    return {"device": device, "python": platform.python_version(), "pykeen-dans": VERSION, **versions}


def _table(rows: Sequence[Row]) -> str:
    """Make the table of results."""
    several = len({row.model for row in rows}) > 1
    lines = []
    for row in rows:
        low, high = row.interval
        spread = "" if math.isnan(row.deviation) else f" ± {row.deviation:.3f}"
        lines.append(
            ({"model": row.model} if several else {})
            | {
                "negatives": row.label,
                "MRR": f"{row.means['mrr']:.3f}{spread}",
                "difference": "" if math.isnan(row.difference) else f"{row.difference:+.3f}",
                "95 %": "" if math.isnan(low) else f"[{low:+.3f}, {high:+.3f}]",
                "Hits@1": f"{row.means['hits_at_1']:.3f}",
                "Hits@10": f"{row.means['hits_at_10']:.3f}",
                "seconds": f"{row.means['seconds']:.1f}",
                "seeds": len(row.seeds),
            }
        )
    return tabulate(lines, headers="keys", disable_numparse=True, stralign="left")
