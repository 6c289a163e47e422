"""The tables and the page of :mod:`suite.multimodal`, made of its rows alone."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..rows import load
from . import epochs, generator, quality
from .quality import FOLDERS, VARIANTS

__all__ = [
    "write_page",
]

Rows = Iterable[Mapping[str, Any]]
TEMPLATE = pathlib.Path(__file__).parent.joinpath("page.rst.in")
#: MRR of RotatE in the paper, in per cent; its own row of uniform negatives differs from that of its main table
PUBLISHED = {
    "uniform": (29.28, 33.67, 34.95),
    "Bernoulli": (20.46, 29.65, 33.63),
    "KBGAN": (25.73, 29.47, 29.71),
    "NSCaching": (20.32, 32.86, 32.03),
    "SANS": (30.51, 33.32, 35.28),
    "MMRNS": (29.67, 34.47, 33.32),
    "DHNS": (34.36, 35.68, 39.11),
}


def table(headers: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    """Make a table."""
    result = [".. list-table::", "    :header-rows: 1", ""]
    for line in (headers, *lines):
        result += [f"    {'* -' if column == 0 else '  -'} {cell}" for column, cell in enumerate(line)]
    return [*result, ""]


def number(value: float) -> str:
    """Show three digits, without a leading zero."""
    return f"{value:.3f}".replace("0.", ".", 1)


def spread(values: Sequence[float]) -> str:
    """Show a mean, and a standard deviation where there is one."""
    text = number(statistics.mean(values))
    return f"{text} ± {number(statistics.stdev(values))}" if len(values) > 1 else text


def quality_table(rows: Rows) -> list[str]:
    """Make the table of test figures."""
    rows = [row for row in rows if row["ranked"] == "test"]
    lines = []
    for dataset, title in FOLDERS.items():
        own = [row for row in rows if row["recipe"] == f"{dataset}-rotate"]
        uniform = {row["seed"]: row["mrr"] for row in own if row["variant"] == "basic"}
        for variant, options in VARIANTS.items():
            of_variant = [row for row in own if row["variant"] == variant]
            if not of_variant:
                continue
            gains = [row["mrr"] - uniform[row["seed"]] for row in of_variant if row["seed"] in uniform]
            lines.append(
                [
                    title,
                    options.label,
                    str(len(of_variant)),
                    spread([row["mrr"] for row in of_variant]),
                    "—" if variant == "basic" or not gains else f"{statistics.mean(gains):+.3f}",
                    spread([row["hits_at_1"] for row in of_variant]),
                    spread([row["hits_at_10"] for row in of_variant]),
                ]
            )
    return table(["data", "negatives", "seeds", "MRR", "over uniform", "Hits\\@1", "Hits\\@10"], lines)


def generator_table(rows: Rows) -> list[str]:
    """Make the table of the generator's errors."""
    lines = [
        [
            FOLDERS[row["dataset"].lower()],
            row["space"],
            level,
            number(row["zero_predictor_l1"]),
            number(row["untrained_l1"][level]),
            number(row["trained_l1"][level]),
            ", ".join(f"{distance:.2f}" for distance in row["distances"][level]),
        ]
        for row in rows
        for level in row["trained_l1"]
    ]
    headers = ["data", "vectors of", "level", "zero predictor", "closed form alone", "trained", "distance to the truth"]
    return table(headers, lines)


def epochs_table(rows: Rows) -> list[str]:
    """Make the table of epochs."""
    lines = [[row["setting"], f"{row['basic']:.1f}", f"{row['dhns-text']:.1f}", f"{row['ratio']:.2f}"] for row in rows]
    return table(["setting", "uniform", "dhns, texts", "ratio"], lines)


def published_table() -> list[str]:
    """Make the table of the paper's figures."""
    return table(
        ["negatives", "DB15K", "MKG-W", "MKG-Y"],
        [[name, *(f"{value:.2f}" for value in values)] for name, values in PUBLISHED.items()],
    )


def write_page(results: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Write the page.

    :param results: the folder of the result files
    :param folder: the folder of the page

    :returns: its path
    """
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, lines in (
        ("quality", quality_table(load(results / quality.FILE))),
        ("generator", generator_table(load(results / generator.FILE))),
        ("cost", epochs_table(load(results / epochs.FILE))),
        ("published", published_table()),
    ):
        text = text.replace(f"@{name}@\n", "\n".join(lines) + "\n")
    path = folder / "hierarchical_results.rst"
    path.write_text(text, encoding="utf-8")
    return path
