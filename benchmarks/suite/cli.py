"""The command line of the suite."""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
import tempfile
import time
from collections.abc import Iterator, Sequence

import click
import torch

from . import cost as costs
from . import curves, data, pages, regression, scale
from . import quality as trainings
from .configurations import LOSSES, configuration
from .multimodal import tables as multimodal_tables
from .multimodal.cli import multimodal
from .rows import RESULTS, default_folder, load
from .tiers import TIERS
from .training import quiet
from .variants import VARIANTS, missing

__all__ = [
    "main",
    "quality",
]

logger = logging.getLogger(__name__)

PARTS = ("quality", "time", "cost", "scale")

tier_option = click.option("--tier", type=click.Choice(list(TIERS)), default="small", show_default=True)
output_option = click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    help="The folder of the result files. [default: benchmarks/results, or a temporary one for the tier smoke]",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of torch in each process."
)
only_option = click.option(
    "--only", multiple=True, help="The recipes, as <data set>-<model>. [default: those of the tier]"
)
variant_option = click.option(
    "--variant",
    "variants",
    multiple=True,
    type=click.Choice(list(VARIANTS)),
    default=("basic", "live"),
    show_default=True,
)
micro_option = click.option(
    "--micro",
    type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path),
    help="The report of pytest-benchmark, from `pytest benchmarks/micro --benchmark-json=FILE`.",
)


def _prepare(threads: int) -> None:
    """Say what happens, and nothing else, and use as many threads as were asked for."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("suite").setLevel(logging.INFO)
    quiet()
    torch.set_num_threads(threads)


def _results(output: pathlib.Path | None, tier: str) -> pathlib.Path:
    """Choose the folder of the result files. What means nothing is not kept with the source."""
    if output is not None:
        return output
    return pathlib.Path(tempfile.mkdtemp(prefix="pykeen-dans-benchmarks-")) if tier == "smoke" else default_folder()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Tell what is wrong with a recipe, a graph or a data set, rather than where it was noticed."""
    try:
        yield
    except (ValueError, data.DataMissingError) as error:
        raise click.ClickException(str(error)) from error


def _is_chosen(context: click.Context, selector: str) -> bool:
    """Tell whether something is chosen, rather than all of a tier.

    :param context: the context of the command
    :param selector: the option that chooses

    :returns: whether it was given

    :raises UsageError: if another option was given that would do nothing
    """
    given = {
        name for name in context.params if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    chosen = selector in given
    idle = given & {"tier"} if chosen else given - {"tier", "output", "threads"}
    if idle:
        flags = ", ".join(option.opts[0] for option in context.command.params if option.name in idle)
        raise click.UsageError(f"{flags} does nothing with{'' if chosen else 'out'} --{selector.removesuffix('s')}.")
    return chosen


def _run_part(part: str, tier: str, results: pathlib.Path) -> None:
    """Run one part of a tier."""
    plan = TIERS[tier]
    started = time.perf_counter()
    if part == "quality":
        count = trainings.execute(plan.quality(), results)
    elif part == "time":
        count = curves.execute(plan.races, results)
    elif part == "cost":
        count = costs.execute(results, **plan.cost)
    else:
        count = scale.execute(results, graphs=plan.graphs, variants=plan.scale_variants)
    logger.info("%s: %d new rows in %.0f s", part, count, time.perf_counter() - started)


def _check(results: pathlib.Path, report: pathlib.Path | None = None) -> None:
    """Compare ratios with those that were kept, and fail where there is a regression."""
    measured = regression.ratios_of_costs(load(results / costs.FILE))
    if report is not None:
        measured |= regression.ratios_of_micro(json.loads(report.read_text(encoding="utf-8")))
    try:
        regressions = regression.compare(measured, regression.load_baseline())
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if regressions:
        raise click.ClickException("slower than it was:\n" + "\n".join(regressions))
    click.echo("No regression of the ratios to basic.")


def _write(results: pathlib.Path) -> None:
    """Write tables and figures, into the documentation where the results are those that are kept."""
    kept = results.resolve() == RESULTS
    path = pages.write_page(results, pages.DOCS if kept else results / "page")
    if kept:
        pages.write_readme(results)
        multimodal_tables.write_page(results, pages.DOCS)
    click.echo(f"Wrote {path}.")


@click.group(invoke_without_command=True)
@tier_option
@output_option
@threads_option
@micro_option
@click.pass_context
def main(
    context: click.Context, tier: str, output: pathlib.Path | None, threads: int, micro: pathlib.Path | None
) -> None:
    """Run all parts of a tier, write tables and figures, and check for regressions.

    Whatever the result files have already is not measured again, but for costs.
    """
    _prepare(threads)
    if context.invoked_subcommand is not None:
        return
    started = time.perf_counter()
    results = _results(output, tier)
    for part in PARTS:
        _run_part(part, tier, results)
    _write(results)
    if tier == "smoke" or micro is not None:
        # the ratios that are kept are those of its sizes
        _check(results, micro)
    click.echo(f"The tier {tier} took {time.perf_counter() - started:.0f} s; its results are in {results}.")


@main.command()
@only_option
@variant_option
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="The number of seeds.")
@click.option("--first-seed", type=int, default=1, show_default=True, help="Tuning used seed 0.")
@click.option("--loss", "losses", multiple=True, type=click.Choice(list(LOSSES)), default=("nssa",), show_default=True)
@click.option("--filtered", is_flag=True, help="Filter known triples out of the negatives.")
@click.option("--epochs", type=click.IntRange(min=1), help="The number of epochs. [default: the recipe's]")
@click.option(
    "--export",
    type=click.Path(dir_okay=False, writable=True, path_type=pathlib.Path),
    help="Train nothing, but write the configuration of the first of these rows, for `pykeen experiments run`.",
)
@tier_option
@output_option
@threads_option
@click.pass_context
def quality(
    context: click.Context,
    only: Sequence[str],
    variants: Sequence[str],
    seeds: int,
    first_seed: int,
    losses: Sequence[str],
    filtered: bool,
    epochs: int | None,
    export: pathlib.Path | None,
    tier: str,
    output: pathlib.Path | None,
    threads: int,
) -> None:
    """Train with several kinds of negatives, and rank test triples, a row for each training."""
    _prepare(threads)
    if not _is_chosen(context, "only"):
        _run_part("quality", tier, _results(output, tier))
        return
    settings = trainings.plan(
        only,
        variants,
        range(first_seed, first_seed + seeds),
        losses=losses,
        filtered=[filtered],
        epochs=epochs,
    )
    with _explained():
        if export is None:
            trainings.execute(settings, output or default_folder())
            return
        first = next(settings, None)
        if first is None:
            raise click.UsageError(f"--variant={variants[0]}: {missing(variants[0])}.")
        export.write_text(json.dumps(configuration(first), indent=2) + "\n", encoding="utf-8")
    click.echo(f"Wrote {export}; run it with `pykeen experiments run {export} -d OUT --keep-seed`.")


@main.command(name="time")
@only_option
@variant_option
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="The number of seeds.")
@click.option(
    "--factor",
    "factors",
    multiple=True,
    type=click.IntRange(min=1),
    default=(1, 2),
    show_default=True,
    help="How many times the epochs of the reference.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="The epochs of the reference. [default: the recipe's]")
@tier_option
@output_option
@threads_option
@click.pass_context
def time_(
    context: click.Context,
    only: Sequence[str],
    variants: Sequence[str],
    seeds: int,
    factors: Sequence[int],
    epochs: int | None,
    tier: str,
    output: pathlib.Path | None,
    threads: int,
) -> None:
    """Measure how long it takes to the rank of 64 uniform negatives."""
    _prepare(threads)
    if not _is_chosen(context, "only"):
        _run_part("time", tier, _results(output, tier))
        return
    racers = tuple(dict.fromkeys([curves.REFERENCE, *variants]))
    races = (
        curves.Race(recipe, racers, seed, factors=tuple(factors), epochs=epochs)
        for seed in range(1, 1 + seeds)
        for recipe in only
    )
    with _explained():
        curves.execute(races, output or default_folder())


@main.command()
@only_option
@variant_option
@click.option("--number", type=click.IntRange(min=1), default=32, show_default=True, help="Negatives for a positive.")
@click.option("--epochs", type=click.IntRange(min=1), default=4, show_default=True, help="The median of them counts.")
@click.option("--dim", type=click.IntRange(min=1), help="The embedding dimension. [default: the recipe's]")
@tier_option
@output_option
@threads_option
@click.pass_context
def cost(
    context: click.Context,
    only: Sequence[str],
    variants: Sequence[str],
    number: int,
    epochs: int,
    dim: int | None,
    tier: str,
    output: pathlib.Path | None,
    threads: int,
) -> None:
    """Measure hot path, refresh, epochs and memory; with --only, epochs and memory of these recipes."""
    _prepare(threads)
    if not _is_chosen(context, "only"):
        _run_part("cost", tier, _results(output, tier))
        return
    with _explained():
        for recipe in only:
            costs.keep(
                output or default_folder(), costs.epochs(recipe, variants, num_epochs=epochs, number=number, dim=dim)
            )


@main.command(name="scale")
@click.option("--graph", "graphs", multiple=True, help="A number of triples, or a data set. [default: the tier's]")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=click.Choice(list(VARIANTS)),
    default=scale.SAMPLERS,
    show_default=True,
)
@tier_option
@output_option
@threads_option
@click.pass_context
def scale_(
    context: click.Context,
    graphs: Sequence[str],
    variants: Sequence[str],
    tier: str,
    output: pathlib.Path | None,
    threads: int,
) -> None:
    """Measure epochs and memory against the size of the graph."""
    _prepare(threads)
    if not _is_chosen(context, "graphs"):
        _run_part("scale", tier, _results(output, tier))
        return
    sizes = [int(graph) if graph.isdecimal() else graph for graph in graphs]
    with _explained():
        scale.execute(output or default_folder(), graphs=sizes, variants=tuple(dict.fromkeys(["basic", *variants])))


@main.command()
@output_option
def tables(output: pathlib.Path | None) -> None:
    """Write tables and figures, from result files alone."""
    _write(output or default_folder())


@main.command()
@output_option
@micro_option
@click.option("--write-baseline", is_flag=True, help="Keep the ratios, instead of a check.")
def check(output: pathlib.Path | None, micro: pathlib.Path | None, write_baseline: bool) -> None:
    """Compare ratios to basic with those that were kept, and fail where one is larger."""
    results = output or default_folder()
    if not write_baseline:
        _check(results, micro)
        return
    measured = regression.ratios_of_costs(load(results / costs.FILE))
    if micro is not None:
        measured |= regression.ratios_of_micro(json.loads(micro.read_text(encoding="utf-8")))
    regression.write_baseline(measured)
    click.echo(f"Wrote {regression.BASELINE}.")


@main.command(name="data")
@click.argument("names", nargs=-1, required=True)
def data_(names: Sequence[str]) -> None:
    """Load data sets, which downloads those that are not there, and tell their sizes."""
    for name in names:
        with _explained():
            click.echo(data.load(name).summary_str())


main.add_command(multimodal)
