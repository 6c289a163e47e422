"""Pictures: what training gained over time, and how hard its negatives were.

Nothing here needs a display, or changes the settings of matplotlib.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .curve import ValidationCurve
from .diagnostics import NegativesReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "draw_curves",
    "draw_hardness",
    "lowest_tick",
    "save_report",
]

#: Colours that can be told apart with any colour vision (Okabe & Ito, 2008)
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def draw_curves(axes: Axes, curves: Mapping[str, ValidationCurve]) -> None:
    """Draw the mean reciprocal rank on validation triples over the seconds of training.

    :param axes: where to draw
    :param curves: the curve of each sampler, by its name
    """
    for number, (name, curve) in enumerate(curves.items()):
        axes.plot(
            curve.seconds,
            curve.values,
            color=_COLORS[number % len(_COLORS)],
            marker="o",
            markersize=3,
            label=name,
        )
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("MRR on validation triples")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=lowest_tick([value for curve in curves.values() for value in curve.values]))
    axes.grid(alpha=0.3)
    _legend_above(axes)


def lowest_tick(values: Sequence[float]) -> float | None:
    """Tell where an axis begins such that it misleads nobody: at 0, unless most of the picture were empty.

    :param values: what is drawn, none of it negative

    :returns: 0, or None for where matplotlib lets it begin
    """
    return 0.0 if not values or min(values) < max(values) / 2 else None


def _legend_above(axes: Axes) -> None:
    """Put the legend where nothing is drawn."""
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)


def draw_hardness(axes: Axes, report: NegativesReport) -> None:
    """Draw how hard the negatives of each band are for the model, beside the targets of the bands.

    :param axes: where to draw
    :param report: the report on a sampler, made with a model
    """
    samples = [band.percentiles.numpy() * 100 for band in report.bands]
    positions = list(range(1, len(samples) + 1))
    drawn = [(position, sample) for position, sample in zip(positions, samples, strict=True) if len(sample)]
    if drawn:
        axes.boxplot(
            [sample for _, sample in drawn],
            positions=[position for position, _ in drawn],
            widths=0.5,
            whis=(5, 95),
            showfliers=False,
            medianprops={"color": _COLORS[1], "linewidth": 2},
        )
    axes.scatter(
        positions[: len(report.targets)],
        [100 * target for target in report.targets],
        marker="_",
        s=700,
        color=_COLORS[0],
        label="target",
        zorder=3,
    )
    axes.axhline(50, color="grey", linestyle="--", linewidth=1, label="uniform negatives")
    axes.set_xticks(positions, [f"band {position - 1}" for position in positions])
    axes.set_xlabel("hardness bands, from easy to hard")
    axes.set_ylabel("rank percentile (0 is the hardest)")
    axes.set_ylim(0, 100)
    _legend_above(axes)


def save_report(
    path: str | os.PathLike[str],
    *,
    curves: Mapping[str, ValidationCurve] | None = None,
    report: NegativesReport | None = None,
    title: str | None = None,
) -> None:
    """Write a picture of curves, of the hardness of negatives, or of both side by side.

    :param path: the file. Its name tells the format, e.g. ``.png``, ``.svg`` or ``.pdf``.
    :param curves: the curve of each sampler, by its name
    :param report: the report on a sampler, made with a model
    :param title: the title

    :raises ValueError: if there is nothing to draw
    """
    # imported late, since it takes longer than all else together; without pyplot, no window system is asked for
    from matplotlib.figure import Figure

    if curves is None and report is None:
        raise ValueError("curves=None and report=None: there is nothing to draw; pass one of them, or both.")
    num_columns = (curves is not None) + (report is not None)
    figure = Figure(figsize=(5.5 * num_columns, 4), dpi=150, layout="constrained")
    axes = figure.subplots(1, num_columns, squeeze=False)[0].tolist()
    if curves is not None:
        draw_curves(axes.pop(0), curves)
    if report is not None:
        draw_hardness(axes.pop(0), report)
    if title is not None:
        figure.suptitle(title)
    figure.savefig(path)
