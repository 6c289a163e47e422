"""The command ``demo``: uniform, shared and generated negatives side by side."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping
from typing import Any

import click
from pykeen.datasets import dataset_resolver
from tabulate import tabulate

from ..experiments import load_recipe, with_sampler
from ..inspection import sampler_of
from ..inspection.diagnostics import NegativesReport, describe_negatives
from ..inspection.pictures import save_report
from ..utils.triples import as_trained
from .data import MODEL, SHARED_RECIPE, held_out_triples, load_default
from .group import main
from .options import data_options, dataset_option, epochs_option, negatives_option, seed_option
from .training import Run, train

__all__ = [
    "demo",
]

#: What is compared: each with its training loop, None for negatives of each positive's own
_COMPARED: Mapping[str, str | None] = {"uniform": None, "shared": "shared-negatives", "generated": "dans-kgc"}
_METRICS = {
    "MRR": "both.realistic.inverse_harmonic_mean_rank",
    "Hits@1": "both.realistic.hits_at_1",
    "Hits@10": "both.realistic.hits_at_10",
}
#: What tables and picture show, a line for each part of them
_RESULTS = """\
uniform    negatives of each positive's own, drawn from all entities alike
shared     one pool for each batch, corrected to stand for all entities
generated  the same pool, and candidates of each query on top
MRR        the mean of 1 / rank of the true answer among all entities, 1 is best
Hits@k     the share of test triples whose answer is among the first k
seconds    of training, with all that negatives need, but without ranking
"""
_BANDS = """\
percentiles         the share of entities, in %, that the model prefers to the negative: 0 is the hardest, 50 is chance
distinct entities   how many different ones there are among all candidates
false negatives     what validation or test triples say is true
training triples    what training says is true, so that other answers of a query compete
"""
_PICTURE = """\
left   validation MRR against the seconds of training: further up, and further to the left, is better
right  boxes hold the middle half of the candidates of a band, with their median, and blue lines are the targets
"""


@main.command(
    epilog="""\b
Examples:
  pykeen-dans demo
  pykeen-dans demo --dataset umls --epochs 20 --output umls.png"""
)
@dataset_option
@data_options
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
def demo(
    dataset: str | None,
    data_folder: pathlib.Path | None,
    offline: bool,
    epochs: int | None,
    seed: int,
    num_negatives: int | None,
    output: pathlib.Path,
) -> None:
    """Train ComplEx with uniform, with shared, and with shared and generated negatives, side by side.

    All trainings have the same model and number of epochs. The hyper-parameters of each loss were tuned for it: that of
    uniform negatives is PyKEEN's NSSA loss, that of shared ones is cross entropy, corrected for the sample.
    """
    if not output.absolute().parent.is_dir():
        raise click.BadParameter(f"{output}: the folder does not exist; make it first.", param_hint="--output")
    started = time.perf_counter()
    name, data = load_default(dataset, data_folder=data_folder, offline=offline)
    runs: dict[str, Run] = {}
    for label, loop in _COMPARED.items():
        click.secho(f"\n{label}", bold=True)
        recipe = _compared_recipe(name, loop, num_negatives=num_negatives, epochs=epochs, seed=seed)
        runs[label] = train(recipe, data)
    options = recipe["pipeline"]
    title = (
        f"{options['model']} on {dataset_resolver.lookup(name).__name__}, "
        f"{options['training_kwargs']['num_epochs']} epochs"
    )
    report = describe_negatives(
        sampler_of(runs["generated"].result),
        mapped_triples=as_trained(data.training),
        held_out=held_out_triples(data),
        model=runs["generated"].result.model,
        seed=seed,
    )
    click.echo(f"\n{title}. Test triples, filtered ranks, one seed ({seed}):\n")
    click.echo(_results(runs))
    click.echo(f"\n{_RESULTS}")
    if options["training_loop_kwargs"]["num_shared"] >= data.num_entities:
        click.echo("The pool holds all entities of so small a graph: candidates on top change draws, but no target.\n")
    click.echo("The generated candidates at the end of training, by hardness band, the easiest first:\n")
    click.echo(_bands(report))
    click.echo(f"\n{_BANDS}")
    save_report(output, curves={name: run.curve for name, run in runs.items()}, report=report, title=title)
    click.echo(_PICTURE)
    click.echo(f"The picture is {output}. All of this took {time.perf_counter() - started:.0f} seconds.")


def _compared_recipe(name: str, loop: str | None, *, num_negatives: int | None, **kwargs: Any) -> dict[str, Any]:
    """Get the recipe of one of the trainings that are compared.

    :param name: the name of the data set
    :param loop: the training loop, None for PyKEEN's own
    :param num_negatives: the number of negatives for each positive of PyKEEN's own loop, default: the recipe's
    :param kwargs: see :func:`with_sampler`

    :returns: the recipe
    """
    recipe = load_recipe(f"{name}-{MODEL}{SHARED_RECIPE if loop else ''}")
    # uniform negatives have no options that generated ones would not have
    result = with_sampler(recipe, "basic", num_negatives=None if loop else num_negatives, **kwargs)
    if loop:
        options = result["pipeline"]
        options["training_loop"] = loop
        # the loop brings its sampler along
        del options["negative_sampler"], options["negative_sampler_kwargs"]
    return result


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
