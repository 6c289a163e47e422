"""The page of results: hand-written text with tables and charts that are made of rows alone.

A line of the template such as ``@levels recipes=umls-complex,family-complex variants=basic,basic-64@`` calls the
function of this name, whose result takes its place. What was not measured is a dash.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .data import title_of
from .quality import is_present
from .recipes import MODELS
from .rows import load
from .variants import label

_ROOT = pathlib.Path(__file__).parents[2].resolve()
DOCS = _ROOT / "docs" / "source"
README = _ROOT / "README.md"
TEMPLATE = pathlib.Path(__file__).parents[1].resolve() / "results.rst.in"
_MARKS = "<!-- table: begin (made by `python benchmarks/run.py tables`) -->", "<!-- table: end -->"
_NOTHING = "—"
#: Colours that can be told apart with any colour vision (Okabe & Ito, 2008)
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
_MARKERS = "osD^Pv*"


def all_rows_of(folder: pathlib.Path, *names: str) -> pd.DataFrame:
    """Load the rows that can be measured again, without further overrides."""
    rows = [row for name in names for row in load(folder / name) if not row.get("overrides") and is_present(row)]
    return pd.DataFrame(rows, columns=None if rows else ["recipe", "variant", "seed", "mrr", "seconds", "run"])


def rows_of(folder: pathlib.Path, *names: str) -> pd.DataFrame:
    """Load the last row of each seed."""
    return all_rows_of(folder, *names).drop_duplicates(["recipe", "variant", "seed"], keep="last")


def number(value: float, digits: int = 3, sign: str = "") -> str:
    """Show a share without a leading zero, with ``sign="+"`` as a difference."""
    return _NOTHING if pd.isna(value) else re.sub(r"^([+-]?)0\.", r"\1.", f"{value:{sign}.{digits}f}")


def spread(values: pd.Series[float]) -> str:
    """Show a mean, the standard deviation, and how many there are."""
    if not len(values := values.dropna()):
        return _NOTHING
    deviation = f" ± {number(values.std(ddof=1))}" if len(values) > 1 else ""
    return f"{number(values.mean())}{deviation} ({len(values)})"


def title_of_recipe(recipe: str) -> str:
    """Tell what tables call a recipe."""
    dataset, model = recipe.split("-")[:2]
    return f"{title_of(dataset)}, {MODELS[model]['model'] if model in MODELS else model}"


def list_table(cells: Mapping[str, Sequence[str]], columns: Sequence[str], corner: str = "") -> str:
    """Format a table as reST, whose cells may be long, without lines that have nothing to show."""
    lines = [[corner, *columns], *([key, *line] for key, line in cells.items() if {*line} != {_NOTHING})]
    if len(lines) == 1:
        return "Not measured yet.\n"
    rows = [f"    {'  -' if column else '* -'} {cell}" for line in lines for column, cell in enumerate(line)]
    return "\n".join([".. list-table::", "    :header-rows: 1", "", *rows, ""])


def levels_frame(folder: pathlib.Path, recipes: Sequence[str], variants: Sequence[str]) -> pd.DataFrame:
    """Pivot the mean test MRR, and seconds as multiples of those of ``basic`` in the same race."""
    # a seed may have been raced twice, against others each time
    frame, raced = rows_of(folder, "quality.jsonl", "race.jsonl"), all_rows_of(folder, "race.jsonl")
    ranks = frame.pivot_table(index="variant", columns="recipe", values="mrr", aggfunc=spread)
    basic = raced[raced["variant"] == "basic"].set_index(["recipe", "run"])["seconds"]
    keys = pd.MultiIndex.from_frame(raced[["recipe", "run"]])
    raced = raced.assign(ratio=raced["seconds"].to_numpy() / basic.reindex(keys).to_numpy())
    ratios = raced.pivot_table(index="variant", columns="recipe", values="ratio")

    def cell(variant: str, recipe: str) -> str:
        rank, ratio = (table.get(recipe, pd.Series()).get(variant) for table in (ranks, ratios))
        return _NOTHING if pd.isna(rank) else rank if pd.isna(ratio) else f"{rank}, {ratio:.2f} ×"

    lines = {label(key): [cell(key, recipe) for recipe in recipes] for key in variants}
    made = pd.DataFrame.from_dict(lines, orient="index", columns=[title_of_recipe(recipe) for recipe in recipes])
    return made[(made != _NOTHING).any(axis="columns")]


def levels(folder: pathlib.Path, *, recipes: Sequence[str], variants: Sequence[str]) -> str:
    """Show the mean test MRR of variants on several recipes."""
    frame = levels_frame(folder, recipes, variants)
    return list_table(dict(zip(frame.index, frame.to_numpy().tolist(), strict=True)), [*frame.columns], "negatives")


def _training(row: Mapping[str, Any]) -> tuple[str, int, int]:
    """Tell whose seed and length a training shares; ``*`` in the name of a variant is not part of the length."""
    return row["recipe"], row["seed"], round(row["num_epochs"] / float(row["variant"].partition("*")[2] or 1))


def gains(folder: pathlib.Path, *, recipes: Sequence[str], variants: Sequence[str]) -> str:
    """Show what is gained on the first variant, by validation triples, and at what cost where both took turns."""
    # fewer epochs are those of all of them; further overrides are other trials
    rows = [row for row in load(folder / "trials.jsonl") if {*row["overrides"]} <= {"training_kwargs"}]
    rows = [row for row in rows if row["recipe"] in recipes and is_present(row)]
    bases = {key: row for row in rows if row["variant"] == variants[0] for key in (row["run"], _training(row))}

    def cell(recipe: str, variant: str) -> str:
        found = [row for row in rows if (row["recipe"], row["variant"]) == (recipe, variant)]
        keys = [(row, row["run"] if row["run"] in bases else _training(row)) for row in found]
        pairs = [(row, bases[key]) for row, key in keys if key in bases]
        if not pairs:
            return _NOTHING
        if variant == variants[0]:
            return spread(pd.Series([row["valid_mrr"] for row in found]))
        gain = np.mean([row["valid_mrr"] - base["valid_mrr"] for row, base in pairs])
        costs = [row["seconds"] / base["seconds"] for row, base in pairs if row["run"] == base["run"]]
        return number(gain, sign="+") + (f", {np.mean(costs):.2f} ×" if costs else "")

    lines = {label(variant): [cell(recipe, variant) for recipe in recipes] for variant in variants}
    return list_table(lines, [title_of(recipe.partition("-")[0]) for recipe in recipes], "negatives")


def details(folder: pathlib.Path, *, recipe: str, variants: Sequence[str]) -> str:
    """Show all measures of variants on one recipe."""
    frame = rows_of(folder, "quality.jsonl", "race.jsonl")
    lines = {}
    for variant in variants:
        part = frame[(frame["recipe"] == recipe) & (frame["variant"] == variant)]
        measures = [
            number(part[key].mean()) if key in part else _NOTHING for key in ("hits_at_1", "hits_at_10", "ndcg_at_5")
        ]
        trials = str(part["trials"].iloc[-1]) if len(part) else _NOTHING
        lines[label(variant)] = [spread(part["mrr"]), *measures, trials]
    columns = ["MRR", "Hits\\@1", "Hits\\@10", "NDCG\\@5", "trials of its study"]
    return list_table(lines, columns, title_of_recipe(recipe))


def chart(folder: pathlib.Path, *, recipes: Sequence[str], variants: Sequence[str], docs: pathlib.Path) -> str:
    """Draw MRR against seconds of training, a panel for each recipe, for light and for dark pages."""
    raced = rows_of(folder, "race.jsonl")
    raced = raced[raced["recipe"].isin(recipes) & raced["variant"].isin(variants)]
    recipes = [recipe for recipe in recipes if (raced["recipe"] == recipe).any()]
    if not recipes:
        return "Not measured yet.\n"
    figures = []
    for scheme, ink in (("light", "#1f2328"), ("dark", "#e6edf3")):
        name = "results.svg" if scheme == "light" else f"results-{scheme}.svg"
        (docs / "_static").mkdir(parents=True, exist_ok=True)
        colors = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink)
        # the same bytes for the same rows
        with mpl.rc_context({"svg.hashsalt": "pykeen-dans", "font.size": 11, "legend.labelcolor": ink, **colors}):
            figure = _draw(raced, recipes, variants)
            figure.savefig(docs / "_static" / name, metadata={"Date": None}, transparent=True)
        figures += [
            f".. figure:: _static/{name}",
            f"    :figclass: wide only-{scheme}",
            "    :alt: Test MRR against seconds of training",
            "",
            "    Test MRR against seconds of training: further up is better, further left is faster.",
            "",
        ]
    return "\n".join(figures)


def _draw(raced: pd.DataFrame, recipes: Sequence[str], variants: Sequence[str]) -> Figure:
    """Draw the panels, in which uniform negatives have a circle, and shared ones other marks."""
    figure = Figure(figsize=(3.6 * len(recipes), 3.6), layout="constrained")
    shown = [key for key in variants if (raced["variant"] == key).any()]
    for axes, recipe in zip(figure.subplots(1, len(recipes), squeeze=False)[0], recipes, strict=True):
        for key, color, mark in zip(shown, _COLORS, _MARKERS, strict=False):
            part = raced[(raced["recipe"] == recipe) & (raced["variant"] == key)]
            axes.errorbar(
                part["seconds"].mean(),
                part["mrr"].mean(),
                part["mrr"].std(),
                fmt=mark,
                color=color,
                markersize=10,
                capsize=4,
                label=label(key),
            )
        axes.set(title=title_of_recipe(recipe), xlabel="seconds of training")
        axes.margins(x=0.1, y=0.15)
        axes.set_xlim(0, axes.get_xlim()[1])
        # differences that are none do not fill a panel
        low, high = axes.get_ylim()
        missing = max(0.0, 0.06 - (high - low)) / 2
        axes.set_ylim(low - missing, high + missing)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    axes = figure.axes[0]
    axes.set_ylabel("test MRR")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(shown), 5), frameon=False
    )
    return figure


def negatives(folder: pathlib.Path, *, recipes: Sequence[str], variants: Sequence[str]) -> str:
    """Show how many negatives are true, and how hard they are, with each hardness band of generated ones."""
    frame = rows_of(folder, "quality.jsonl", "negatives.jsonl")
    if "negatives" not in frame:
        return list_table({}, [])
    # the last seed of each, in the order in which they are asked for
    frame = frame.dropna(subset=["negatives"]).drop_duplicates(["recipe", "variant"], keep="last")
    frame = frame.set_index(["recipe", "variant"], drop=False).reindex(pd.MultiIndex.from_product([recipes, variants]))
    frame = frame.dropna(subset=["negatives"])
    lines = [
        (f"{title_of_recipe(row.recipe)}: {label(row.variant)}{', band ' + str(band) if band else ''}", part)
        for row in frame.itertuples()
        for band, part in enumerate([row.negatives["drawn"], *row.negatives["bands"]])
    ]
    keys = {"known": "in training", "held_out": "in validation or test", "hardness": "median percentile"}
    cells = {key: [number(part[name], 4) for name in keys] for key, part in lines}
    return list_table(cells, [*keys.values()], "negatives")


def steps(folder: pathlib.Path, *, recipe: str, variants: Sequence[str]) -> str:
    """Show the milliseconds of a step, part by part."""
    rows = {row["variant"]: row for row in load(folder / "cost.jsonl") if row["recipe"] == recipe}
    parts = ("draw", "scores", "backward", "optimizer", "between")
    lines = {
        label(key): [
            *(f"{1e3 * row['parts'][part] / row['steps']:.1f}" for part in parts),
            f"{row['peak_memory_mib']:.0f}",
        ]
        for key, row in rows.items()
        if key in variants
    }
    return list_table(lines, [*parts, "peak MiB"], f"{title_of_recipe(recipe)}, ms")


def sizes(folder: pathlib.Path, *, variants: Sequence[str]) -> str:
    """Show the milliseconds of a step against the number of entities, and the growth of drawing and scoring."""
    rows = [row for row in load(folder / "scale.jsonl") if row["variant"] in variants]
    counts = sorted({row["num_entities"] for row in rows})
    lines = {}
    for key in variants:
        found = {row["num_entities"]: row for row in rows if row["variant"] == key}
        sampled = [(row["parts"]["draw"] + row["parts"]["scores"]) / row["steps"] for row in found.values()]
        # the exponent of a power law, by least squares of logarithms
        growth = np.polyfit(np.log([*found]), np.log(sampled), 1)[0] if len(found) > 1 else float("nan")
        times = {n: 1e3 * (row["seconds"] - row["parts"]["setup"]) / row["steps"] for n, row in found.items()}
        cells = [f"{times[count]:.0f}" if count in times else _NOTHING for count in counts]
        lines[label(key)] = [*cells, number(growth, 2)]
    columns = [*(f"{count:,} entities" for count in counts), "exponent of drawing and scoring"]
    return list_table(lines, columns, "negatives")


def estimators(folder: pathlib.Path) -> str:
    """Show the error of the loss by candidates, the hardest graphs for a pool last."""
    rows = {(row["num_entities"], row["sharpness"]): row for row in load(folder / "estimator.jsonl")}
    found = sorted(rows.values(), key=lambda row: row["num_entities"] / row["effective_entities"])
    lines = {
        f"{row['num_entities']:,} entities, {row['effective_entities']:,.0f} effective ones": [
            number(value, 2) for value in row["errors"].values()
        ]
        for row in found
    }
    return list_table(lines, [*found[0]["errors"]] if found else [], "graph")


_BLOCKS = {
    function.__name__: function for function in (levels, gains, details, chart, negatives, steps, sizes, estimators)
}


def _block(line: str, results: pathlib.Path, docs: pathlib.Path) -> str:
    """Make what a line of the template asks for."""
    name, *options = line.strip("@\n").split()
    kwargs: dict[str, Any] = {"docs": docs} if name == "chart" else {}
    for key, _, value in (option.partition("=") for option in options):
        kwargs[key] = value if key == "recipe" else value.split(",")
    function: Callable[..., str] = _BLOCKS[name]
    return function(results, **kwargs)


def write_page(results: pathlib.Path, docs: pathlib.Path = DOCS) -> pathlib.Path:
    """Write the page."""
    lines = TEMPLATE.read_text(encoding="utf-8").splitlines()
    text = "\n".join(_block(line, results, docs) if re.fullmatch(r"@\w+( .*)?@", line) else line for line in lines)
    path = docs / "results.rst"
    path.write_text(text + "\n", encoding="utf-8")
    return path


def write_readme(results: pathlib.Path, path: pathlib.Path = README) -> None:
    """Replace the table of the README."""
    recipes = [f"{name}-complex" for name in ("codexsmall", "fb15k237", "family", "umls", "kinships")]
    variants = ["basic", "basic-64", "1vsall", "shared-256", "shared-1024", "loop-near", "loop-near-1024"]
    before, _, rest = path.read_text(encoding="utf-8").partition(_MARKS[0])
    after = rest.partition(_MARKS[1])[2]
    table = levels_frame(results, recipes, variants).to_markdown()
    path.write_text(f"{before}{_MARKS[0]}\n\n{table}\n\n{_MARKS[1]}{after}", encoding="utf-8")
