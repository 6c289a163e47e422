"""Figures, made from rows alone."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pykeen_dans.inspection.curve import ValidationCurve
from pykeen_dans.inspection.pictures import draw_curves

from .curves import runs
from .tables import label

__all__ = [
    "draw_scale",
    "draw_time",
    "draw_hot_path",
]

#: Colours that can be told apart with any colour vision (Okabe & Ito, 2008)
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_PANELS_IN_A_ROW = 4


def _save(figure: Figure, path: pathlib.Path) -> None:
    """Write a figure, in the same bytes for the same rows."""
    with mpl.rc_context({"svg.hashsalt": "pykeen-dans"}):
        figure.savefig(path, metadata={"Date": None})


def draw_time(rows: Sequence[Mapping[str, Any]], path: pathlib.Path) -> bool:
    """Draw the validation curves of the last run of each recipe.

    :param rows: rows of time to quality
    :param path: the file

    :returns: whether there was something to draw
    """
    latest = {run[0]["recipe"]: run for run in runs(rows)}
    if not latest:
        return False
    num_columns = min(len(latest), _PANELS_IN_A_ROW)
    num_rows = math.ceil(len(latest) / num_columns)
    figure = Figure(figsize=(5 * num_columns, 4 * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
    for axes in panels[len(latest) :]:
        axes.set_axis_off()
    for axes, (recipe, run) in zip(panels, sorted(latest.items()), strict=False):
        curves = {
            row["entry"]: ValidationCurve(
                epochs=list(row["epochs"]),
                seconds=list(row["seconds"]),
                values=list(row["values"]),
                total_seconds=row["total_seconds"],
            )
            for row in run
        }
        draw_curves(axes, curves)
        axes.set_title(recipe)
    _save(figure, path)
    return True


def draw_scale(rows: Sequence[Mapping[str, Any]], path: pathlib.Path) -> bool:
    """Draw seconds of an epoch, and memory, against the number of triples.

    :param rows: rows of scale
    :param path: the file

    :returns: whether there was something to draw
    """
    if not rows:
        return False
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    for number, variant in enumerate(variants):
        own = [row for row in rows if row["variant"] == variant]
        synthetic = sorted((row for row in own if isinstance(row["graph"], int)), key=lambda row: row["num_triples"])
        real = [row for row in own if not isinstance(row["graph"], int)]
        style = {"color": _COLORS[number % len(_COLORS)], "markersize": 4}
        for axes, key in zip(panels, ("epoch_seconds", "peak_memory_mib"), strict=True):
            axes.plot(
                [row["num_triples"] for row in synthetic],
                [row[key] for row in synthetic],
                marker="o",
                label=label(variant),
                **style,
            )
            # a real graph is no part of the line
            axes.plot([row["num_triples"] for row in real], [row[key] for row in real], "x", **style)
    banks = [row for row in rows if "bank_mib" in row]
    if banks:
        sizes, mib = zip(*sorted((row["num_triples"], row["bank_mib"]) for row in banks), strict=True)
        panels[1].plot(sizes, mib, color="grey", marker=".", linestyle=":", label="bank")
        panels[1].axhline(banks[0]["memory_mib"], color="grey", linewidth=1, linestyle="--", label="option memory")
    for axes, title in zip(panels, ("seconds of an epoch", "peak memory, MiB"), strict=True):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("training triples")
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    _save(figure, path)
    return True


def draw_hot_path(rows: Sequence[Mapping[str, Any]], path: pathlib.Path) -> bool:
    """Draw the ratio of the hot path to that of basic, over the number of negatives.

    :param rows: cost rows
    :param path: the file

    :returns: whether there was something to draw
    """
    hot = [row for row in rows if row["what"].startswith("hot path") and "sampler" in row]
    if not hot:
        return False
    settings = list(dict.fromkeys(row["setting"] for row in hot))
    samplers = list(dict.fromkeys(row["sampler"] for row in hot))
    figure = Figure(figsize=(max(6, 0.7 * len(settings) * len(samplers) ** 0.5), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(samplers)
    for number, sampler in enumerate(samplers):
        ratios = {row["setting"]: row["ratio"] for row in hot if row["sampler"] == sampler}
        axes.bar(
            np.arange(len(settings)) + number * width,
            [ratios.get(setting, 0.0) for setting in settings],
            width,
            color=_COLORS[number % len(_COLORS)],
            label=label(sampler),
        )
    axes.axhline(1, color="grey", linewidth=1)
    axes.set_xticks(np.arange(len(settings)) + 0.4 - width / 2, settings, rotation=30, ha="right")
    axes.set_ylabel("time of the hot path, basic = 1")
    axes.legend(frameon=False, fontsize="small")
    _save(figure, path)
    return True
