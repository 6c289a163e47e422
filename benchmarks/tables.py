"""Make the tables of ``docs/source/benchmarks.rst`` from the result files, so that no figure is typed by hand.

python benchmarks/tables.py
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable
from typing import Any

import click
import pandas as pd
from tabulate import tabulate

HERE = pathlib.Path(__file__).parent.resolve()
RESULTS = HERE / "results"
TARGET = HERE.parent / "docs" / "source" / "benchmarks_table.rst"

#: The order of rows, and how they are called
VARIANTS = {
    "basic": "basic",
    "live": "dans_kgc, live (defaults)",
    "alone": "dans_kgc, alone",
    "noise": "noise control (untrained denoiser)",
    "oracle": "oracle bank (all entities scored)",
    "share-0": "no generated negatives",
    "no-dam": "w/o DAM (constant difficulty)",
    "no-ccd": "w/o CCD (no condition)",
    "constant-share": "share .25 throughout",
    "no-dtm": "w/o DTM (constant curriculum, share .25)",
    "growing-share": "share growing from 0 to .5",
    "reversed": "hard to easy",
    "basic-64": "basic, 64 negatives",
    "dans": "dans, live (defaults)",
    "dans-plain": "dans, fakes that do not begin at the priors, as in the paper",
    "dans-entity": "dans, entity pathway only",
    "dans-relation": "dans, entity-and-relation pathway only",
    "dans-no-film": "dans w/o FiLM",
    "dans-no-pathway-loss": "dans w/o pathway loss",
    "dans-random": "dans, all uniform",
    "dans-noise": "noise control (priors for fakes)",
}


def load(name: str) -> list[dict[str, Any]]:
    """Load the rows of a result file, none where there is no file yet."""
    path = RESULTS / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def spread(values: pd.Series[float], digits: int = 4) -> str:
    """Format mean and standard deviation."""
    if len(values) == 1:
        return f"{values.iloc[0]:.{digits}f}"
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def quality(rows: list[dict[str, Any]]) -> Iterable[str]:
    """Format one table for each recipe."""
    frame = pd.DataFrame(rows)
    for recipe, group in frame.groupby("recipe", sort=False):
        basic = group[group["variant"] == "basic"].set_index("seed")
        lines = []
        for variant, label in VARIANTS.items():
            part = group[group["variant"] == variant].set_index("seed")
            if part.empty:
                continue
            paired = part["mrr"] - basic["mrr"].reindex(part.index)
            lines.append(
                (
                    label,
                    len(part),
                    part["num_negatives"].iloc[0],
                    spread(part["mrr"]),
                    "" if variant == "basic" else f"{paired.mean():+.4f}",
                    f"{part['hits_at_1'].mean():.4f}",
                    f"{part['hits_at_10'].mean():.4f}",
                    f"{part['train_seconds'].mean():.0f}",
                    f"{part['overhead_seconds'].mean():.0f}",
                )
            )
        epochs = group["num_epochs"].iloc[0]
        title = f"{recipe}, {epochs} epochs"
        yield f"{title}\n{'~' * len(title)}\n"
        headers = [
            "negatives",
            "seeds",
            "N",
            "MRR",
            "over basic",
            "Hits@1",
            "Hits@10",
            "train s",
            "of it between epochs s",
        ]
        yield tabulate(lines, headers=headers, tablefmt="rst", disable_numparse=True) + "\n"


def cost(rows: list[dict[str, Any]]) -> Iterable[str]:
    """Format the cost of the hot path and of whole epochs."""
    if not rows:
        return
    yield "Cost\n~~~~\n"
    yield (
        tabulate(
            [
                (row["what"], row["setting"], f"{row['basic']:.3g}", f"{row['ours']:.3g}", f"{row['ratio']:.2f}")
                for row in rows
            ],
            headers=["what", "setting", "basic", "dans_kgc", "ratio"],
            tablefmt="rst",
            disable_numparse=True,
        )
        + "\n"
    )


@click.command()
def main() -> None:
    """Write the tables."""
    rows = load("quality.jsonl")
    parts = [
        ".. This file is made by benchmarks/tables.py from benchmarks/results; do not edit it.\n",
        *(quality(rows) if rows else ["No results yet.\n"]),
        *cost(load("cost.jsonl")),
    ]
    TARGET.write_text("\n".join(parts))
    click.echo(f"Wrote {TARGET} from {len(rows)} trainings.")


if __name__ == "__main__":
    main()
