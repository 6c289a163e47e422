"""Figures of records: each is drawn on axes of matplotlib, and has the numbers that it shows.

Colours are numbers here. A page gives them the colours of its theme, a picture of its own those of :data:`COLORS`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..inspection.pictures import lowest_tick
from .records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLORS",
    "Drawing",
    "drawings_of",
]

#: Colours that can be told apart with any colour vision (Okabe & Ito, 2008)
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")
#: Of what is neither a way nor a band
GREY = COLORS[-1]


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure.

    :param name: the name of its files
    :param title: what it shows
    :param caption: how to read it, in one or two sentences
    :param legend: the colour and the text of each entry
    :param table: the numbers
    :param draw: draws it
    :param group: the training that it belongs to, empty for all of them together
    """

    name: str
    title: str
    caption: str
    legend: Sequence[tuple[str, str]]
    table: pd.DataFrame
    draw: Callable[[Axes], None]
    group: str = ""


def color(number: int) -> str:
    """Give a colour to the entry of this number."""
    return COLORS[number % (len(COLORS) - 1)]


def drawings_of(records: Sequence[Record]) -> list[Drawing]:
    """Make all figures for which the records have something to show.

    :param records: the records of one data set

    :returns: the figures
    """
    several = len({record.model for record in records}) > 1
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(f"{record.label}, {record.model}" if several else record.label, []).append(record)
    found = [
        *(_curves(groups, axis) for axis in ("epochs", "seconds")),
        _false_negatives(groups),
        *(
            drawing
            for number, (label, group) in enumerate(groups.items())
            for drawing in _of_training(group[0], f"-{number}", f"{label}, seed {group[0].seed}")
        ),
    ]
    return [drawing for drawing in found if drawing is not None]


def _of_training(record: Record, suffix: str, group: str) -> Iterator[Drawing]:
    """Make the figures of a single training."""
    makers = (_curriculum, _hardness, _map, _generator_loss, _difficulty)
    for make in makers if record.curriculum is not None else ():
        if (drawing := make(record)) is not None:
            yield dataclasses.replace(drawing, name=f"{drawing.name}{suffix}", group=group)


def _curves(groups: dict[str, list[Record]], axis: str) -> Drawing:
    """Draw the mean reciprocal rank on validation triples, the mean and the range over seeds."""
    frames = {}
    for label, group in groups.items():
        frame = pd.concat(
            [pd.DataFrame({key: each.curve[key] for key in ("epochs", "seconds", "values")}) for each in group]
        )
        frames[label] = frame.groupby("epochs").agg(
            seconds=("seconds", "mean"), mrr=("values", "mean"), low=("values", "min"), high=("values", "max")
        )
    table = pd.concat(frames, names=["negatives"]).reset_index()

    def draw(axes: Axes) -> None:
        for number, frame in enumerate(frames.values()):
            x = frame["seconds"] if axis == "seconds" else frame.index
            axes.plot(x, frame["mrr"], color=color(number), linewidth=2)
            axes.fill_between(x, frame["low"], frame["high"], color=color(number), alpha=0.18, linewidth=0)
        axes.set_xlabel("seconds of training" if axis == "seconds" else "epochs")
        axes.set_ylabel("validation MRR")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=lowest_tick([*table["low"], *table["high"]]))

    caption = ["Mean reciprocal rank of validation triples, higher is better. Test triples count as wrong here."]
    if any(len(group) > 1 for group in groups.values()):
        caption.append("Lines are means over seeds, bands their range.")
    if axis == "seconds":
        caption.append("Everything that negatives need is on the clock, ranking is not.")
    return Drawing(
        name=f"mrr-{axis}",
        title=f"Model quality against {axis}",
        caption=" ".join(caption),
        legend=[(color(number), label) for number, label in enumerate(frames)],
        table=table,
        draw=draw,
    )


def _false_negatives(groups: dict[str, list[Record]]) -> Drawing | None:
    """Draw the share of negatives that are true by held-out triples."""
    rows: list[dict[str, Any]] = [
        {
            "negatives": label,
            "part": row["source"] if row["band"] is None else f"band {row['band']}",
            "percent": 100 * sum(row.get(key) or 0.0 for key in ("false_validation", "false_testing")),
            "number": number,
        }
        for number, (label, group) in enumerate(groups.items())
        for row in group[0].negatives
        if row["count"]
    ]
    if not rows:
        return None
    table = pd.DataFrame(rows)

    def draw(axes: Axes) -> None:
        # with a gap between trainings
        places = [-(place + 0.7 * row["number"]) for place, row in enumerate(rows)]
        size = 8.5 if len(rows) < 12 else 7
        for place, row in enumerate(rows):
            axes.barh(places[place], row["percent"], color=color(row["number"]), height=0.7)
            end = (row["percent"], places[place])
            axes.annotate(f"{row['percent']:.2f}", end, (4, 0), textcoords="offset points", va="center", fontsize=size)
        axes.set_yticks(places, [row["part"] for row in rows], fontsize=size)
        axes.set_xlabel("false negatives, %")
        axes.set_xlim(0, max(1.22 * table["percent"].max(), 0.01))
        axes.grid(visible=False, axis="y")

    return Drawing(
        name="false-negatives",
        title="False negatives",
        caption="The share of negatives that validation or test triples say are true; lower is better. Training never "
        "sees these triples.",
        legend=[(color(number), label) for number, label in enumerate(groups)],
        table=table.drop(columns="number"),
        draw=draw,
    )


def _tracked(record: Record, names: dict[str, str]) -> dict[str, pd.Series]:
    """Get the values of metrics by epoch, where there are any."""
    found = {}
    for name, label in names.items():
        values = record.tracked.get(f"negatives.{name}", {})
        if values:
            series = pd.Series({int(epoch): value for epoch, value in values.items()}, dtype=float).dropna()
            if len(series):
                found[label] = series.sort_index()
    return found


def _bands(record: Record) -> dict[str, str]:
    """List the metrics of the bands' hardness, of the first source where there are several."""
    curriculum = record.curriculum or {"targets": [], "sources": []}
    suffix = f"_{curriculum['sources'][0]}" if len(curriculum["sources"]) > 1 else ""
    return {f"percentile_{band}{suffix}": f"band {band}" for band in range(len(curriculum["targets"]))}


def _hardness(record: Record) -> Drawing | None:
    found = _tracked(record, _bands(record))
    if not found:
        return None
    targets = record.curriculum["targets"] if record.curriculum else []
    table = pd.DataFrame({label: 100 * series for label, series in found.items()}).rename_axis("epoch").reset_index()
    numbers = [int(label.rpartition(" ")[2]) for label in found]

    def draw(axes: Axes) -> None:
        for number, series in zip(numbers, found.values(), strict=True):
            axes.plot(series.index, 100 * series, color=color(number), linewidth=2, marker="o", markersize=2.5)
            axes.axhline(100 * targets[number], color=color(number), linewidth=1, linestyle=(0, (4, 3)))
        axes.axhline(50, color=GREY, linewidth=1, linestyle=":")
        axes.set_xlabel("epochs")
        axes.set_ylabel("rank percentile (0 is the hardest)")
        axes.set_xlim(left=0)
        axes.set_ylim(0, 100)

    return Drawing(
        name="hardness",
        title="Hardness of each band",
        caption="The median share of entities that the model ranks above a generated negative. Dashed lines are the "
        "targets, the dotted one is chance.",
        legend=[(color(number), label) for number, label in zip(numbers, found, strict=True)],
        table=table,
        draw=draw,
    )


def _curriculum(record: Record) -> Drawing | None:
    if record.curriculum is None:
        return None
    epochs, weights = record.curriculum["epochs"], record.curriculum["weights"]
    num_bands = len(record.curriculum["targets"])
    table = pd.DataFrame(weights, columns=[f"band {band}" for band in range(num_bands)])
    table.insert(0, "epoch", epochs)

    def draw(axes: Axes) -> None:
        columns = [100 * table[f"band {band}"] for band in range(num_bands)]
        axes.stackplot(epochs, *columns, colors=[color(band) for band in range(num_bands)], alpha=0.85, linewidth=0)
        axes.set_xlabel("epochs")
        axes.set_ylabel("% of generated negatives")
        axes.set_xlim(0, max(epochs))
        axes.set_ylim(0, 100)

    return Drawing(
        name="curriculum",
        title="Curriculum",
        caption="From which bands of hardness generated negatives are drawn, from easy (band 0) to hard.",
        legend=[(color(band), f"band {band}") for band in range(num_bands)],
        table=table,
        draw=draw,
    )


def _generator_loss(record: Record) -> Drawing | None:
    names = {"noise_error": "network", "ridge_error": "ridge regression", "generator_loss": "generator"}
    names |= {"discriminator_loss": "discriminator"}
    found = _tracked(record, names)
    if not found:
        return None
    of_noise = "network" in found
    table = pd.DataFrame(found).rename_axis("epoch").reset_index()

    def draw(axes: Axes) -> None:
        for number, series in enumerate(found.values()):
            axes.plot(series.index, series, color=color(number), linewidth=2, marker="o", markersize=2.5)
        if of_noise:
            axes.axhline(1.0, color=GREY, linewidth=1, linestyle=":")
        axes.set_xlabel("epochs")
        axes.set_ylabel("error of the predicted noise" if of_noise else "loss")
        axes.set_xlim(left=0)
        if of_noise:
            axes.set_ylim(0, 1.1 * max(1.0, *(series.max() for series in found.values())))

    caption = (
        "What the network adds to its closed-form start. The dotted line is a predictor of zeros: a generator there "
        "has learned nothing."
        if of_noise
        else "The losses of the two players: neither should win for good."
    )
    return Drawing(
        name="generator",
        title="Generator loss",
        caption=caption,
        legend=[(color(number), label) for number, label in enumerate(found)] + [(GREY, "zeros")] * of_noise,
        table=table,
        draw=draw,
    )


def _difficulty(record: Record) -> Drawing | None:
    if not record.difficulty:
        return None
    table = pd.DataFrame(record.difficulty)

    def draw(axes: Axes) -> None:
        axes.scatter(table["degree"].clip(lower=1), table["difficulty"], s=10, color=color(0), alpha=0.5, linewidths=0)
        axes.set_xscale("log")
        axes.set_xlabel("triples of the entity")
        axes.set_ylabel("difficulty")
        axes.set_ylim(0, 1)

    return Drawing(
        name="difficulty",
        title="Difficulty of entities",
        caption=f"Each point is one of {len(table)} entities; noise is modulated by its difficulty.",
        legend=[],
        table=table,
        draw=draw,
    )


#: In the order in which they are drawn: what is on top comes last
_KINDS = {
    "uniform": (GREY, "uniform"),
    "generated": (COLORS[1], "generated"),
    "true": (COLORS[0], "true tails"),
}


def _map(record: Record) -> Drawing | None:
    if not record.points:
        return None
    points: dict[str, Any] = record.points["kinds"]
    shown = {kind: style for kind, style in _KINDS.items() if kind in points}
    table = pd.concat({kind: pd.DataFrame(points[kind], columns=["x", "y"]) for kind in shown}, names=["kind"])
    table = table.reset_index("kind").reset_index(drop=True)

    def draw(axes: Axes) -> None:
        for kind, (shade, _) in shown.items():
            x, y = zip(*points[kind], strict=True)
            axes.scatter(
                x, y, s=15, facecolors="none" if kind == "uniform" else shade, edgecolors=shade, linewidths=0.8
            )
        first, second = (100 * share for share in record.points["explained"]) if record.points else (math.nan, math.nan)
        axes.set_xlabel(f"first component ({first:.0f} %)")
        axes.set_ylabel(f"second component ({second:.0f} %)")

    return Drawing(
        name="map",
        title=f"Answers of “{record.points['relation']}”",
        caption="Entities as the trained model sees them, in the two directions in which they differ most. Good "
        "negatives lie near the true tails, not on them.",
        legend=[*reversed(shown.values())],
        table=table,
        draw=draw,
    )
