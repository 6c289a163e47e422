"""The benchmarks: one command for all of them.

python benchmarks/run.py race --recipe codexsmall-complex --variant basic --variant shared-256
python benchmarks/run.py tune --recipe codexsmall-complex --variant basic --variant shared-256 --trials 12
"""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

import click
import torch
from suite import cost, estimator, pages, rows, tiers, tuning
from suite.quality import PARTS, Part, plan
from suite.recipes import Setting, experiment
from suite.training import quiet
from suite.variants import VARIANTS, merge, nested

_RECIPE = click.option("--recipe", "recipes", multiple=True, required=True, help="<data set>-<model>, or shipped.")
_HELP = "See `variants`; `basic*2` trains twice as long."
_VARIANT = click.option("--variant", "variants", multiple=True, default=("basic",), help=_HELP)
_EPOCHS = click.option("--epochs", type=click.IntRange(min=1), help="Default: the recipe's.")
_FOLDER = click.option("--output", "folder", type=click.Path(path_type=pathlib.Path), help="Where rows are kept.")
_SET = click.option("--set", "changes", multiple=True, metavar="PATH=JSON", help="E.g. model_kwargs.embedding_dim=128.")


def _overrides(changes: tuple[str, ...]) -> dict[str, Any]:
    """Read ``--set``."""
    overrides: dict[str, Any] = {}
    for change in changes:
        path, _, value = change.partition("=")
        try:
            overrides = merge(overrides, nested(path, json.loads(value)))
        except json.JSONDecodeError as error:
            raise click.UsageError(f"--set {change}: {value} is no JSON; quote strings.") from error
    return overrides


@click.group()
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of torch.")
def main(threads: int) -> None:
    """Measure what negatives are worth, and what they cost."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("suite").setLevel(logging.INFO)
    quiet()
    torch.set_num_threads(threads)


def _command(name: str, part: Part) -> None:
    """Add the command of a part."""

    @main.command(name=name, help=f"{part.description} What is there already is skipped.")
    @_RECIPE
    @_VARIANT
    @click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How many.")
    @click.option("--first-seed", type=int, default=1, show_default=True)
    @_EPOCHS
    @_SET
    @_FOLDER
    def command(seeds: int, first_seed: int, changes: tuple[str, ...], folder: pathlib.Path | None, **kw: Any) -> None:
        numbers = range(first_seed, first_seed + seeds)
        try:
            settings = plan(seeds=numbers, overrides=_overrides(changes), **kw)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        click.echo(f"{part.execute(settings, (folder or rows.default_folder()) / f'{name}.jsonl')} new rows")


for _name, _part in PARTS.items():
    _command(_name, _part)


@main.command()
def variants() -> None:
    """List the variants."""
    for name, variant in VARIANTS.items():
        click.echo(f"{name}: {variant.label} {json.dumps(variant.overrides)}")


@main.command()
@_RECIPE
@_VARIANT
@_EPOCHS
@click.option("--trials", type=click.IntRange(min=1), default=12, show_default=True, help="With those that there are.")
@click.option("--keep/--no-keep", default=True, show_default=True, help="Write the best one as a recipe.")
def tune(recipes: tuple[str, ...], variants: tuple[str, ...], epochs: int | None, trials: int, keep: bool) -> None:
    """Tune recipes on validation triples, with the same number of trials for each loss."""
    for setting in plan(recipes, variants, (0,), epochs=epochs):
        record = tuning.tune(setting, trials=trials)
        click.echo(f"{record['name']}: {record['best']}")
        if keep:
            click.echo(f"Wrote {tuning.write_recipe(record)}")


@main.command()
@_RECIPE
@_VARIANT
@_SET
@click.option("--seed", type=int, default=1, show_default=True)
@click.argument("path", type=click.Path(path_type=pathlib.Path, dir_okay=False))
def export(changes: tuple[str, ...], seed: int, path: pathlib.Path, **chosen: tuple[str, ...]) -> None:
    """Write one experiment as JSON that `pykeen experiments run` accepts."""
    made = experiment(Setting(chosen["recipes"][0], chosen["variants"][0], seed, _overrides(changes)))
    path.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


@main.command(name="estimator")
@click.option("--entities", "sizes", type=int, multiple=True, default=(1_000, 10_000, 100_000, 1_000_000))
@click.option("--sharpness", type=float, multiple=True, default=(1.0, 2.0, 3.0), help="Deviation of scores.")
@_FOLDER
def of_estimator(sizes: tuple[int, ...], sharpness: tuple[float, ...], folder: pathlib.Path | None) -> None:
    """Tell how well candidates tell the loss of scoring all entities, on planted scores."""
    path = (folder or rows.default_folder()) / "estimator.jsonl"
    click.echo(f"{estimator.execute(sizes, sharpness, path)} new rows")


@main.command()
@click.argument("name", type=click.Choice([*tiers.TIERS]))
@_FOLDER
def tier(name: str, folder: pathlib.Path | None) -> None:
    """Run a selection of all parts."""
    if name == "smoke" and folder is None:
        raise click.UsageError("The figures of `smoke` mean nothing; name a folder by --output.")
    click.echo(f"{tiers.execute(name, folder or rows.default_folder())} new rows")


@main.command()
def tables() -> None:
    """Write the page of results and the table of the README, from the rows alone."""
    click.echo(f"Wrote {pages.write_page(rows.RESULTS)}")
    pages.write_readme(rows.RESULTS)


@main.command()
@click.option("--update", is_flag=True, help="Keep the ratios instead.")
def check(update: bool) -> None:
    """Compare the hot path, as ratios to `basic`, with those of benchmarks/baseline.json."""
    measured = cost.hot_path()
    if update:
        kept = {"ratios": {key: round(value, 3) for key, value in sorted(measured.items())}}
        cost.BASELINE.write_text(json.dumps(kept, indent=2) + "\n")
    elif found := cost.regressions(measured, json.loads(cost.BASELINE.read_text())["ratios"]):
        raise click.ClickException("\n".join(found))


if __name__ == "__main__":
    main()
