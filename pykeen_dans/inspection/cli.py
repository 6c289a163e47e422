"""The command ``pykeen-dans``: a demonstration, and a look at generated negatives."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import pathlib
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import click
import torch
from more_click import verbose_option
from pykeen.datasets import Dataset, dataset_resolver, get_dataset
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.sampling import NegativeSampler, negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop
from pykeen.typing import MappedTriples
from tabulate import tabulate

from ..experiments import load_recipe, recipe_names, with_sampler
from ..sampling.base import GeneratedNegativeSampler
from ..version import VERSION
from .curve import ValidationCurve, ValidationCurveTrainingCallback
from .diagnostics import NegativesReport, as_trained, describe_negatives, negatives_table
from .pictures import save_report

__all__ = [
    "main",
]

logger = logging.getLogger(__name__)

#: The data set of the demonstration, and the one that ships with PyKEEN, where the first cannot be downloaded
_DATASET, _FALLBACK = "codexsmall", "umls"
_MODEL = "complex"
#: The recipes of the loops that share negatives end in the loss that they were tuned for
_SHARED_RECIPE = "-crossentropy"
_DATASETS = [
    name.removesuffix(f"-{_MODEL}{_SHARED_RECIPE}")
    for name in recipe_names()
    if name.endswith(f"-{_MODEL}{_SHARED_RECIPE}")
]
#: What is compared: each with its training loop, None for negatives of each positive's own
_COMPARED: Mapping[str, str | None] = {"uniform": None, "shared": "shared-negatives", "generated": "dans-kgc"}
#: Validation triples are ranked about this many times in a training
_CURVE_POINTS = 20
#: How long to wait for a server that does not answer
_TIMEOUT_SECONDS = 20.0
_METRICS = {
    "MRR": "both.realistic.inverse_harmonic_mean_rank",
    "Hits@1": "both.realistic.hits_at_1",
    "Hits@10": "both.realistic.hits_at_10",
}

dataset_option = click.option(
    "--dataset",
    type=click.Choice(_DATASETS, case_sensitive=False),
    help=f"The data set. [default: {_DATASET}, or {_FALLBACK} where it cannot be downloaded]",
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


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: what PyKEEN says of it, its validation curve, and its sampler."""

    result: PipelineResult
    curve: ValidationCurve
    sampler: NegativeSampler


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep off the screen what PyKEEN logs and warns of, unless --verbose asks for it: progress bars are enough."""
    loggers = [logging.getLogger(name) for name in ("pykeen", "torch_max_mem")]
    levels = [each.level for each in loggers]
    if logging.getLogger().getEffectiveLevel() > logging.INFO:
        for each in loggers:
            each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*pin_memory.*")
            warnings.filterwarnings("ignore", message=".*always shuffled.*")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


@click.group()
@click.version_option(VERSION, prog_name="pykeen-dans")
def main() -> None:
    """Train with generated negative samples in PyKEEN, and look at them."""


@main.command()
@dataset_option
@epochs_option
@seed_option
@negatives_option
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=pathlib.Path),
    default=pathlib.Path("pykeen-dans-demo.png"),
    show_default=True,
    help="The picture to write.",
)
@verbose_option
@_quiet()
def demo(dataset: str | None, epochs: int | None, seed: int, num_negatives: int | None, output: pathlib.Path) -> None:
    """Train ComplEx with uniform, with shared, and with shared and generated negatives, side by side.

    All trainings have the same model and number of epochs. The hyper-parameters of each loss were tuned for it: that of
    uniform negatives is PyKEEN's NSSA loss, that of shared ones is cross entropy, corrected for the sample.
    """
    if not output.absolute().parent.is_dir():
        raise click.BadParameter(f"{output}: the folder does not exist; make it first.", param_hint="--output")
    started = time.perf_counter()
    name, data = _load(dataset)
    runs: dict[str, Run] = {}
    for label, loop in _COMPARED.items():
        click.secho(f"\n{label}", bold=True)
        recipe = _compared_recipe(name, loop, num_negatives=num_negatives, epochs=epochs, seed=seed)
        runs[label] = _train(recipe, data)
    options = recipe["pipeline"]
    title = (
        f"{options['model']} on {dataset_resolver.lookup(name).__name__}, "
        f"{options['training_kwargs']['num_epochs']} epochs"
    )
    report = describe_negatives(
        runs["generated"].sampler,
        mapped_triples=as_trained(data.training),
        held_out=_held_out(data),
        model=runs["generated"].result.model,
        seed=seed,
    )
    click.echo(f"\n{title}. Test triples, filtered ranks, one seed ({seed}):\n")
    click.echo(_results(runs))
    click.echo(
        "\nuniform: negatives of each positive's own. shared: one pool for each batch, corrected to stand for all\n"
        "entities. generated: the same pool, and candidates of each query on top.\n"
    )
    click.echo("The generated candidates at the end of training, by hardness band, the easiest first:\n")
    click.echo(_bands(report))
    save_report(output, curves={name: run.curve for name, run in runs.items()}, report=report, title=title)
    click.echo(f"\nThe picture is {output}. All of this took {time.perf_counter() - started:.0f} seconds.")


@main.command()
@dataset_option
@epochs_option
@seed_option
@negatives_option
@click.option("--num-positives", type=click.IntRange(min=1), default=2, show_default=True, help="How many to look at.")
@click.option("--per-band", type=click.IntRange(min=1), default=2, show_default=True, help="Negatives of each band.")
@verbose_option
@_quiet()
def inspect(
    dataset: str | None, epochs: int | None, seed: int, num_negatives: int | None, num_positives: int, per_band: int
) -> None:
    """Train ComplEx with generated negatives, and list some of them."""
    name, data = _load(dataset)
    recipe = load_recipe(f"{name}-{_MODEL}")
    changed = with_sampler(
        recipe, "dans_kgc", callback="curriculum", num_negatives=num_negatives, epochs=epochs, seed=seed
    )
    run = _train(changed, data)
    assert isinstance(run.sampler, GeneratedNegativeSampler)
    triples = as_trained(data.training)
    generator = torch.Generator().manual_seed(seed)
    table = negatives_table(
        run.sampler,
        triples[torch.randperm(len(triples), generator=generator)[:num_positives]],
        **_labels(data),
        held_out=_held_out(data),
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


def _load(name: str | None) -> tuple[str, Dataset]:
    """Load a data set; without a name, the demonstration's, or else one that needs no download."""
    chosen = name or _DATASET
    try:
        return chosen, _get_dataset(chosen)
    # failures of the network (URLError, PyStow's DownloadError, time-outs) are subclasses of it, and so is a full disk
    except OSError as error:
        if name is not None:
            raise click.ClickException(
                f"--dataset={name} cannot be downloaded ({error}); check the network, or use --dataset={_FALLBACK}, "
                f"which ships with PyKEEN."
            ) from error
        click.secho(
            f"{_DATASET} cannot be downloaded ({error}): using {_FALLBACK} instead, which ships with PyKEEN.",
            fg="yellow",
            err=True,
        )
        return _FALLBACK, _get_dataset(_FALLBACK)


def _get_dataset(name: str) -> Dataset:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        dataset = get_dataset(
            dataset=name, dataset_kwargs=load_recipe(f"{name}-{_MODEL}")["pipeline"]["dataset_kwargs"]
        )
        # some data sets are loaded when they are used first
        logger.info("%s", dataset.summary_str())
        return dataset
    finally:
        socket.setdefaulttimeout(before)


def _held_out(dataset: Dataset) -> MappedTriples:
    """Get the triples of validation and test, in the ids of training."""
    others = [factory.mapped_triples for factory in (dataset.validation, dataset.testing) if factory is not None]
    return as_trained(dataset.training, torch.cat(others))


def _labels(dataset: Dataset) -> dict[str, list[str]]:
    """Get the labels of entities, and those of relations in the ids of training."""
    entities, relations = (
        [label for label, _ in sorted(mapping.items(), key=lambda item: item[1])]
        for mapping in (dataset.entity_to_id, dataset.relation_to_id)
    )
    if dataset.training.create_inverse_triples:
        relations = [name for label in relations for name in (label, f"{label} (inverse)")]
    return {"entity_labels": entities, "relation_labels": relations}


def _compared_recipe(name: str, loop: str | None, *, num_negatives: int | None, **kwargs: Any) -> dict[str, Any]:
    """Get the recipe of one of the trainings that are compared.

    :param name: the name of the data set
    :param loop: the training loop, None for PyKEEN's own
    :param num_negatives: the number of negatives for each positive of PyKEEN's own loop, default: the recipe's
    :param kwargs: see :func:`with_sampler`

    :returns: the recipe
    """
    recipe = load_recipe(f"{name}-{_MODEL}{_SHARED_RECIPE if loop else ''}")
    # uniform negatives have no options that generated ones would not have
    result = with_sampler(recipe, "basic", num_negatives=None if loop else num_negatives, **kwargs)
    if loop:
        options = result["pipeline"]
        options["training_loop"] = loop
        # the loop brings its sampler along
        del options["negative_sampler"], options["negative_sampler_kwargs"]
    return result


def _train(recipe: dict[str, Any], dataset: Dataset) -> Run:
    """Train by a recipe, on its data set that is loaded already."""
    options = dict(recipe["pipeline"])
    del options["dataset_kwargs"]
    training = {**options["training_kwargs"], "use_tqdm_batch": False}
    assert dataset.validation is not None
    curve = ValidationCurveTrainingCallback(
        validation=dataset.validation.mapped_triples,
        known=[dataset.training.mapped_triples],
        frequency=math.ceil(training["num_epochs"] / _CURVE_POINTS),
    )
    callback = training.get("callbacks")
    training["callbacks"] = [curve] if callback is None else [callback, curve]
    training["callbacks_kwargs"] = [None] * len(training["callbacks"])
    options.update(dataset=dataset, training_kwargs=training, evaluation_kwargs={"batch_size": 256})
    result = pipeline(**options)
    loop = result.training_loop
    assert isinstance(loop, SLCWATrainingLoop)
    # a sampler like the one in training, with the same coupling and so with the same bank
    sampler = negative_sampler_resolver.make(
        loop.negative_sampler,
        loop.negative_sampler_kwargs,
        mapped_triples=as_trained(dataset.training),
        num_entities=dataset.training.num_entities,
        num_relations=dataset.training.num_relations,
    )
    return Run(result=result, curve=curve.curve, sampler=sampler)


def _percent(share: float) -> str:
    """Write a share in per cent; 0 means exactly none."""
    return "0" if share == 0 else f"{100 * share:.2f}" if share >= 5e-5 else "< 0.01"


def _results(runs: dict[str, Run]) -> str:
    """Make the table of results."""
    rows = [
        {
            "negatives": name,
            **{label: f"{run.result.get_metric(metric):.3f}" for label, metric in _METRICS.items()},
            "seconds": f"{run.curve.total_seconds:.1f}",
        }
        for name, run in runs.items()
    ]
    return tabulate(rows, headers="keys", disable_numparse=True, stralign="right")


def _bands(report: NegativesReport) -> str:
    """Make the table of hardness bands."""
    rows = [
        {
            "band": number,
            "target percentile": _percent(target),
            "median percentile": _percent(band.hardness),
            "distinct entities, %": _percent(band.diversity),
            "false negatives, %": _percent(band.held_out),
            "training triples, %": _percent(band.known),
        }
        for number, (target, band) in enumerate(zip(report.targets, report.bands, strict=True))
    ]
    return tabulate(rows, headers="keys", disable_numparse=True, stralign="right")
