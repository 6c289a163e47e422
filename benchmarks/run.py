"""The benchmarks: one command for all of them.

python benchmarks/run.py quality --recipe umls-complex --variant basic --variant 1vsall --seeds 3
python benchmarks/run.py race --recipe codexsmall-complex --variant basic --variant shared-256 --curve
python benchmarks/run.py tune --recipe codexsmall-complex --variant basic --variant shared-256 --trials 12
"""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import click
import torch
from suite import quality, rows, tuning
from suite.recipes import Setting, experiment
from suite.training import quiet
from suite.variants import VARIANTS, merge, nested

_RECIPES = click.option(
    "--recipe", "recipes", multiple=True, required=True, help="<data set>-<model>, or a shipped one."
)
_VARIANTS = click.option("--variant", "variants", multiple=True, help=f"One of {', '.join(VARIANTS)}.")
_FOLDER = click.option("--output", "folder", type=click.Path(path_type=pathlib.Path), help="Where rows are kept.")
_SEEDS = click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How many.")
_FIRST = click.option("--first-seed", type=int, default=1, show_default=True)
_EPOCHS = click.option("--epochs", type=click.IntRange(min=1), help="Default: the recipe's.")
_SET = click.option(
    "--set", "changes", multiple=True, metavar="PATH=VALUE", help="E.g. model_kwargs.embedding_dim=128, as JSON."
)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Tell what is wrong with an option, without a traceback."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _overrides(changes: tuple[str, ...]) -> dict[str, Any]:
    """Read ``--set``."""
    overrides: dict[str, Any] = {}
    for change in changes:
        path, _, value = change.partition("=")
        try:
            parsed = json.loads(value)
        except json.JSONDecodeError:
            parsed = value
        overrides = merge(overrides, nested(path, parsed))
    return overrides


def _settings(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose trainings."""
    for option in (_RECIPES, _VARIANTS, _SEEDS, _FIRST, _EPOCHS, _SET, _FOLDER):
        function = option(function)
    return function


def _plan(
    recipes: tuple[str, ...],
    variants: tuple[str, ...],
    seeds: int,
    first_seed: int,
    epochs: int | None,
    changes: tuple[str, ...],
) -> list[Setting]:
    numbers = range(first_seed, first_seed + seeds)
    with _explained():
        settings = quality.plan(recipes, variants or ("basic",), numbers, _overrides(changes))
        settings = settings if epochs is None else quality.with_epochs(settings, epochs)
        for setting in settings:
            experiment(setting)
    return settings


@click.group()
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of torch.")
def main(threads: int) -> None:
    """Measure what negatives are worth, and what they cost."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("suite").setLevel(logging.INFO)
    quiet()
    torch.set_num_threads(threads)


@main.command(name="quality")
@_settings
@click.option("--negatives", type=int, default=512, show_default=True, help="Describe those of so many positives.")
def quality_(folder: pathlib.Path | None, negatives: int, **kwargs: Any) -> None:
    """Train one after the other, and rank the test triples once; what is there already is skipped."""
    count = quality.execute(_plan(**kwargs), folder or rows.default_folder(), negatives=negatives)
    click.echo(f"{count} new rows")


@main.command(name="race")
@_settings
@click.option("--curve", is_flag=True, help="Rank validation triples in between, off the clock.")
def race_(folder: pathlib.Path | None, curve: bool, **kwargs: Any) -> None:
    """Train in turns, epoch by epoch, so that seconds can be compared; ranking is off the clock."""
    count = quality.race(_plan(**kwargs), folder or rows.default_folder(), curve=curve)
    click.echo(f"{count} new rows")


@main.command(name="tune")
@_RECIPES
@_VARIANTS
@_EPOCHS
@click.option("--trials", type=click.IntRange(min=1), default=12, show_default=True, help="With those that there are.")
@click.option("--keep/--no-keep", default=True, show_default=True, help="Write the best one as a recipe.")
def tune_(recipes: tuple[str, ...], variants: tuple[str, ...], epochs: int | None, trials: int, keep: bool) -> None:
    """Tune recipes on validation triples, the same number of trials for each loss."""
    for recipe in recipes:
        for variant in variants or ("basic",):
            with _explained():
                record = tuning.tune(recipe, variant, trials=trials, epochs=epochs)
            click.echo(f"{record['name']}: {record['best']}")
            if keep:
                click.echo(f"Wrote {tuning.write_recipe(record)}")


@main.command()
@_RECIPES
@_VARIANTS
@_SET
@click.option("--seed", type=int, default=1, show_default=True)
@click.argument("path", type=click.Path(path_type=pathlib.Path, dir_okay=False))
def export(recipes: tuple[str], variants: tuple[str], changes: tuple[str, ...], seed: int, path: pathlib.Path) -> None:
    """Write one experiment as JSON that `pykeen experiments run` accepts."""
    with _explained():
        made = experiment(Setting(recipes[0], (variants or ("basic",))[0], seed, _overrides(changes)))
    path.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
