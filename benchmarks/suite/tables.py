"""Tables, made from rows alone, as reStructuredText."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from .bars import HEADLINE_DATASETS, HEADLINE_MODELS, headline, recipe_levels
from .configurations import DATASETS, Setting, shared_digest
from .curves import ratios, runs
from .published import PUBLISHED
from .scale import Law, fit_law
from .variants import VARIANTS

__all__ = [
    "bars_tables",
    "cost_table",
    "groups",
    "heading",
    "label",
    "matrix_table",
    "published_tables",
    "quality_tables",
    "readme_table",
    "scale_tables",
    "table",
    "time_table",
    "with_defaults",
]

Rows = Sequence[Mapping[str, Any]]
_PAPER_SIZE = 1e8
_EARLIER = "an earlier recipe"


def table(headers: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """Format a table.

    :param headers: the names of columns
    :param lines: its lines, of strings or integers

    :returns: reST
    """
    return tabulate(lines, headers=headers, tablefmt="rst", disable_numparse=True) + "\n"


def label(variant: str) -> str:
    """Tell how tables call a variant.

    :param variant: its name

    :returns: its label, or the name of one that is not declared
    """
    return VARIANTS[variant].label if variant in VARIANTS else variant


def heading(title: str, line: str = "~") -> str:
    """Format a heading.

    :param title: its text
    :param line: the character below it

    :returns: reST
    """
    return f"{title}\n{line * len(title)}\n"


def _spread(values: pd.Series[float], digits: int = 4) -> str:
    """Format mean and standard deviation."""
    if len(values) == 1:
        return f"{values.iloc[0]:.{digits}f}"
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def _mean(values: pd.Series[float], form: str = ".4f") -> str:
    """Format the mean of what there is."""
    known = values.dropna()
    return "" if known.empty else format(known.mean(), form)


def _present(recipe: str, *, epochs: int, loss: str = "nssa", filtered: bool = False) -> str:
    """Hash what all variants have in common by the present recipe, or nothing where there is none any more."""
    try:
        return shared_digest(Setting(recipe, "basic", 0, loss=loss, filtered=filtered, epochs=epochs))
    except ValueError:
        return ""


def _shared(row: Mapping[str, Any]) -> str:
    """Tell by which recipe a row was trained; rows of early versions are taken to be of the present one."""
    return str(row["shared"]) if "shared" in row else _present(row["recipe"], epochs=row["num_epochs"])


def with_defaults(rows: Rows) -> pd.DataFrame:
    """Put rows of the quality matrix into a frame, with what rows of early versions lack.

    :param rows: the rows

    :returns: the frame. Of several rows with one setting, the last is kept, and of several defaults of a sampler, those
        of the last row. Rows of early versions do not tell their defaults, and are taken to be of the last ones.
    """
    columns: dict[str, Any] = {"loss_name": "nssa", "filtered": False}
    columns |= dict.fromkeys(("ndcg_at_5", "valid_mrr", "train_ns_per_negative"), float("nan"))
    frame = pd.DataFrame([{**columns, "options": "", **row, "shared": _shared(row)} for row in rows])
    key = ["recipe", "loss_name", "filtered", "num_epochs", "shared", "variant", "num_negatives"]
    last = frame.groupby(key)["options"].transform("last")
    frame = frame[(frame["options"] == last) | (frame["options"] == "")]
    return frame.drop_duplicates([*key, "seed"], keep="last")


def groups(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Split rows by what all variants have in common.

    :param frame: what :func:`with_defaults` makes

    :yields: a title, and the rows
    """
    keys = ["recipe", "loss_name", "filtered", "num_epochs", "shared"]
    for (recipe, loss, filtered, epochs, shared), group in frame.groupby(keys, sort=False):
        title = f"{recipe}, {epochs} epochs"
        if loss != "nssa":
            title += f", {loss}"
        if filtered:
            title += ", known triples filtered out"
        if shared != _present(recipe, epochs=int(epochs), loss=loss, filtered=bool(filtered)):
            title += f" ({_EARLIER})"
        yield title, group


def quality_tables(rows: Rows) -> Iterator[str]:
    """Format one table for each recipe and setting.

    :param rows: rows of the quality matrix

    :yields: reST
    """
    headers = ["negatives", "seeds", "N", "MRR", "over basic", "Hits@1", "Hits@10", "NDCG@5", "valid MRR"]
    headers += ["train s", "of it between epochs s", "ns per negative"]
    frame = with_defaults(rows)
    on_gpu = "utilisation" in frame
    for title, group in groups(frame):
        basic = group[group["variant"] == "basic"].set_index("seed")
        lines = []
        # those that the table of variants does not know (any more) come last
        for name in sorted(group["variant"].unique(), key=[*VARIANTS, *sorted(group["variant"])].index):
            part = group[group["variant"] == name].set_index("seed")
            paired = part["mrr"] - basic["mrr"].reindex(part.index)
            lines.append(
                (
                    label(name),
                    len(part),
                    part["num_negatives"].iloc[0],
                    _spread(part["mrr"]),
                    "" if name == "basic" else _mean(paired, "+.4f"),
                    _mean(part["hits_at_1"]),
                    _mean(part["hits_at_10"]),
                    _mean(part["ndcg_at_5"]),
                    _mean(part["valid_mrr"]),
                    _mean(part["train_seconds"], ".0f"),
                    _mean(part["overhead_seconds"], ".0f"),
                    _mean(part["train_ns_per_negative"], ",.0f"),
                    *([_mean(part["utilisation"], ".0%")] if on_gpu else []),
                )
            )
        yield heading(title, "^")
        yield table([*headers, "GPU in use"] if on_gpu else headers, lines)


#: variant -> how the README calls it, and its noise control
_IN_README = {
    "live": ("`dans_kgc`", "noise"),
    "dans": ("`dans`", "dans-noise"),
    "dans-latent": ("`dans`, latent mode, all bands", "dans-latent-noise"),
    "shipped": ("the recipe as shipped", "dans-fakes-noise"),
}


def matrix_table(rows: Rows) -> str:
    """Format the means of all samplers, a line for each recipe and setting.

    :param rows: rows of the quality matrix

    :returns: reST
    """
    names = [name for name, variant in VARIANTS.items() if variant.kind == "sampler"]
    frame = with_defaults(rows)
    names = [name for name in names if (frame["variant"] == name).any()]
    lines = []
    for title, group in groups(frame):
        parts = [group[group["variant"] == name]["mrr"] for name in names]
        lines.append([title, *(f"{part.mean():.3f} ({len(part)})" if len(part) else "" for part in parts)])
    return table(["mean test MRR (seeds)", *names], lines)


def readme_table(rows: Rows, *, least_seeds: int = 3) -> str:
    """Format what the README shows: samplers beside basic and their noise controls, of recipes with their own loss.

    :param rows: rows of the quality matrix
    :param least_seeds: what has fewer seeds in common with basic is not shown

    :returns: Markdown
    """
    lines = []
    for title, group in groups(with_defaults(rows)):
        if group["loss_name"].iloc[0] != "nssa" or group["filtered"].iloc[0] or _EARLIER in title:
            continue
        of = {name: part.set_index("seed")["mrr"] for name, part in group.groupby("variant")}
        for name, (sampler, control) in _IN_README.items():
            gains = (of[name] - of["basic"]).dropna() if {name, "basic"} <= set(of) else []
            if len(gains) < least_seeds:
                continue
            shown = [of[key].loc[gains.index] for key in ("basic", name)]
            untrained = f"{of[control].mean():.3f} ({len(of[control])})" if control in of else ""
            cells = [f"{part.mean():.3f} ({len(part)})" for part in shown]
            lines.append([title, sampler, *cells, f"{gains.mean():+.3f}", untrained])
    headers = ["recipe", "negatives", "`basic`", "these", "difference", "untrained generator"]
    return tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True) + "\n"


def bars_tables(quality: Rows, time: Rows) -> Iterator[str]:
    """Format what the results must show, and what they do show.

    :param quality: rows of the quality matrix
    :param time: rows of time to quality

    :yields: reST
    """
    lines = [
        (
            DATASETS[level.dataset]["title"],
            f"{level.bar:.3f}",
            "" if level.mrr is None else f"{level.mrr:.3f}",
            level.reached,
            level.recipe or "",
            label(level.variant) if level.variant else "",
            level.num_seeds or "",
            "yes" if level.selected else "",
        )
        for level in recipe_levels(quality)
    ]
    yield "The mean test MRR that a shipped recipe must reach, and what was measured.\n"
    yield table(
        ["data", "wanted", "measured", "reached", "recipe", "negatives", "seeds", "selected on validation"], lines
    )
    found = headline(time)
    yield (
        f"8 negatives of ``dans_kgc``, live, must reach the best validation MRR of 64 uniform ones in at most a third "
        f"of their time, on at least {HEADLINE_DATASETS} of {len(DATASETS)} data sets with at least {HEADLINE_MODELS} "
        f"models: **{found.verdict}**.\n"
    )
    results: list[tuple[str | int, ...]] = []
    for dataset, models in found.measured.items():
        cells = []
        for model in models:
            best = next(value for recipe, value in found.best.items() if recipe.split("-")[:2] == [dataset, model])
            cells.append(f"{model}: " + ("the rank was not reached" if best is None else f"{best:.2f}"))
        results.append((DATASETS[dataset]["title"], "; ".join(cells) or "not measured", len(found.reached[dataset])))
    yield table(["data", "time, of that of 64 uniform negatives", "models in a third"], results)


def time_table(rows: Rows) -> str:
    """Format the ratios of time to quality, a line for each run and training.

    :param rows: rows of time to quality

    :returns: reST
    """
    lines: list[tuple[Any, ...]] = []
    for run in runs(rows):
        found = ratios(run)
        lines.extend(
            (
                f"{row['recipe']}, seed {row['seed']}",
                row["entry"],
                row["num_negatives"],
                row["num_epochs"],
                f"{max(row['values']):.4f}",
                f"{row['total_seconds']:.1f}",
                "not reached" if (ratio := found[row["entry"]]) is None else f"{ratio:.2f}",
            )
            for row in run
        )
    headers = ["run", "training", "N", "epochs", "best valid MRR", "s", "time until the rank of basic-64, of its own"]
    return table(headers, lines)


def cost_table(rows: Rows) -> str:
    """Format costs, the latest of each.

    :param rows: cost rows

    :returns: reST
    """
    latest = {(row["what"], row["setting"], row.get("sampler", "live")): row for row in rows}
    lines = [
        (
            what,
            setting,
            label(sampler),
            f"{row['basic']:.3g}",
            f"{row['ours']:.3g}",
            f"{row['ratio']:.2f}",
        )
        for (what, setting, sampler), row in sorted(latest.items(), key=lambda item: item[0][0])
    ]
    return table(["what", "setting", "negatives", "basic", "these", "ratio"], lines)


def scale_tables(rows: Rows) -> Iterator[str]:
    """Format cost and memory against size, and the power laws fitted to them.

    :param rows: rows of scale

    :yields: reST
    """
    lines = [
        (
            f"{row['num_triples']:,}" + ("" if isinstance(row["graph"], int) else f" ({row['graph']})"),
            label(row["variant"]),
            f"{row['epoch_seconds']:.2f}",
            f"{row['epoch_seconds_ratio']:.2f}" if "epoch_seconds_ratio" in row else "",
            f"{row['setup_seconds']:.1f}",
            f"{row['peak_memory_mib']:.0f}",
            f"{row['bank_mib']:.1f} of {row['memory_mib']:.0f}" if "bank_mib" in row else "",
        )
        for row in sorted(rows, key=lambda row: row["num_triples"])
    ]
    headers = ["triples", "negatives", "epoch s", "of basic", "before it s", "peak MiB", "bank MiB"]
    yield table(headers, lines)
    fitted: list[tuple[str, ...]] = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == variant and isinstance(row["graph"], int)]
        sizes = [row["num_triples"] for row in own]
        if len(set(sizes)) < 3:
            continue
        laws: list[Law] = [fit_law(sizes, [row[key] for row in own]) for key in ("epoch_seconds", "peak_memory_mib")]
        fitted.append(
            (
                label(variant),
                *(f"{law.exponent:.2f} ± {law.error:.2f}" for law in laws),
                f"{laws[0](_PAPER_SIZE):,.0f}",
                f"{laws[1](_PAPER_SIZE) / 1024:,.0f}",
            )
        )
    if fitted:
        yield (
            "Fitted power laws: exponents with their standard errors, and what they give for 10\\ :sup:`8` triples, "
            "which were not measured. Memory has a constant part, so that its law is good for large sizes only.\n"
        )
        yield table(["negatives", "exponent of seconds", "exponent of memory", "epoch s", "peak GiB"], fitted)


def published_tables() -> Iterator[str]:
    """Format published figures.

    :yields: reST
    """
    for published in PUBLISHED:
        yield heading(published.title, "^")
        yield f"{published.source}\n"
        yield table(published.headers, published.lines)
        yield f"{published.comparison}\n"
