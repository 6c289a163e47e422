"""The command ``report``: one page that shows what trainings came to."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import click

from ..reporting.page import write_page
from ..reporting.records import find_records
from .group import main

__all__ = [
    "report",
]


@main.command(
    epilog="""\b
Examples:
  pykeen-dans report pykeen-dans-compare
  pykeen-dans report first-folder second-folder --output both.html"""
)
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=pathlib.Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=pathlib.Path),
    default=pathlib.Path("pykeen-dans-report.html"),
    show_default=True,
    help="The page to write. A folder beside it has each figure as PNG, and its numbers as CSV.",
)
def report(runs: Sequence[pathlib.Path], output: pathlib.Path) -> None:
    """Make one page of HTML of RUNS: folders that "compare" wrote, or single records in them.

    The page needs no network, and has light and dark colours.
    """
    records = find_records(runs)
    if not output.absolute().parent.is_dir():
        raise click.BadParameter(f"{output}: the folder does not exist; make it first.", param_hint="--output")
    folder = write_page(records, output)
    click.echo(f"The page is {output}; its figures are in {folder}, too.")
