"""The page of results: all tables and figures of a folder of result files, put together."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import cost, curves, quality, scale, tables
from .bands import bands_table
from .figures import draw_hot_path, draw_scale, draw_time
from .rows import load

__all__ = [
    "DOCS",
    "README",
    "replace_table",
    "write_page",
]

_ROOT = pathlib.Path(__file__).parent.parent.parent.resolve()
DOCS = _ROOT.joinpath("docs", "source")
README = _ROOT.joinpath("README.md")
_BEGIN, _END = "<!-- table: begin (made by `python benchmarks/run.py tables`) -->", "<!-- table: end -->"
_NOTHING = "Not measured yet.\n"


def _figure(
    draw: Callable[[Any, pathlib.Path], bool], rows: Any, folder: pathlib.Path, name: str, caption: str
) -> Iterator[str]:
    """Draw a figure, and show it where there was something to draw."""
    static = folder / "_static"
    static.mkdir(parents=True, exist_ok=True)
    if draw(rows, static / name):
        yield f".. figure:: _static/{name}\n    :width: 100%\n\n    {caption}\n"


def _or_nothing(rows: Any, parts: Callable[[], Iterable[str]]) -> list[str]:
    return list(parts()) if rows else [_NOTHING]


def page(results: pathlib.Path, folder: pathlib.Path) -> Iterator[str]:
    """Put the page together.

    :param results: the folder of the result files
    :param folder: the folder of the page, in which figures are drawn

    :yields: reST
    """
    trainings, races = load(results / quality.FILE), load(results / curves.FILE)
    costs, sizes = load(results / cost.FILE), load(results / scale.FILE)
    yield ".. This file is made by `python benchmarks/run.py tables`; do not edit it.\n"
    yield tables.heading("What it must show")
    yield from tables.bars_tables(trainings, races)
    yield tables.heading("Quality, all samplers")
    yield from _or_nothing(trainings, lambda: [tables.matrix_table(trainings)])
    yield tables.heading("Quality, recipe by recipe")
    yield from _or_nothing(trainings, lambda: tables.quality_tables(trainings))
    yield tables.heading("Hardness and false negatives, band by band")
    yield (
        "The bank at the end of training: the median rank percentile under the trained model of what a band holds, and "
        "how much of it is true. The easiest band comes first.\n"
    )
    yield from _or_nothing(trainings, lambda: [bands_table(trainings) or _NOTHING])
    yield tables.heading("Time to quality")
    yield from _figure(
        draw_time, races, folder, "benchmarks-time.svg", "Validation MRR over seconds of training, the latest runs."
    )
    yield from _or_nothing(races, lambda: [tables.time_table(races)])
    yield tables.heading("Cost")
    yield from _figure(
        draw_hot_path, costs, folder, "benchmarks-hot-path.svg", "The hot path, as a multiple of that of basic."
    )
    yield from _or_nothing(costs, lambda: [tables.cost_table(costs)])
    yield tables.heading("Scale")
    yield from _figure(
        draw_scale,
        sizes,
        folder,
        "benchmarks-scale.svg",
        "Synthetic graphs with the degrees of FB15k-237 (lines), and real ones (crosses).",
    )
    yield from _or_nothing(sizes, lambda: tables.scale_tables(sizes))
    yield tables.heading("Published figures")
    yield from tables.published_tables()


def write_page(results: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Write the page.

    :param results: the folder of the result files
    :param folder: the folder of the page

    :returns: its path
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "benchmarks_table.rst"
    path.write_text("\n".join(page(results, folder)), encoding="utf-8")
    return path


def replace_table(text: str, markdown: str) -> str:
    """Put a table between the marks of a text.

    :param text: the text
    :param markdown: the table

    :returns: the new text

    :raises ValueError: if the text has no marks
    """
    begin, end = text.find(_BEGIN), text.find(_END)
    if not 0 <= begin < end:
        raise ValueError(f"text has no lines {_BEGIN!r} and {_END!r}, between which the table belongs; put them back.")
    return f"{text[: begin + len(_BEGIN)]}\n\n{markdown}\n{text[end:]}"


def write_readme(results: pathlib.Path, path: pathlib.Path = README) -> None:
    """Write the table of the README anew.

    :param results: the folder of the result files
    :param path: the README
    """
    rows = load(results / quality.FILE)
    path.write_text(replace_table(path.read_text(encoding="utf-8"), tables.readme_table(rows)), encoding="utf-8")
