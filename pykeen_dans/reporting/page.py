"""One page of HTML that shows records: it needs no network, and has the colours of the reader's theme."""

from __future__ import annotations

import html
import importlib.resources
import io
import json
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm.auto import tqdm

from .figures import COLORS, Drawing, drawings_of
from .records import Record
from .statistics import Row, summarise

__all__ = [
    "write_page",
]

#: The size of a figure in inches, such that its text is as large as that of the page, on a phone, too
_SIZE = (4.1, 2.9)
#: What the theme sets instead, in the order in which they are replaced
_INK, _LINE = "#010203", "#040506"
_SETTINGS: Any = {
    "font.size": 9.5,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.7,
    "text.color": _INK,
    "xtick.color": _LINE,
    "xtick.labelcolor": _INK,
    "ytick.color": _LINE,
    "ytick.labelcolor": _INK,
    # text stays text, which can be read aloud, searched and copied
    "svg.fonttype": "none",
    # the same records make the same page
    "svg.hashsalt": "pykeen-dans",
}


def write_page(records: Sequence[Record], path: pathlib.Path) -> pathlib.Path:
    """Write the page, and beside it a folder with each figure as PNG and CSV.

    :param records: the records, of one data set
    :param path: the file of the page

    :returns: the folder
    """
    folder = path.with_name(f"{path.stem}_files")
    folder.mkdir(parents=True, exist_ok=True)
    drawings = drawings_of(records)
    figures: dict[str, list[str]] = {}
    for drawing in tqdm(drawings, desc="Figures", unit="figure"):
        drawing.table.to_csv(folder / f"{drawing.name}.csv", index=False, float_format="%.6g")
        _picture(drawing, folder / f"{drawing.name}.png")
        figures.setdefault(drawing.group, []).append(_figure(drawing, folder.name))
    path.write_text(_page(records, figures), encoding="utf-8")
    return folder


def _picture(drawing: Drawing, path: pathlib.Path) -> None:
    """Write a figure as a picture of its own, with title and legend."""
    # imported late, since it takes longer than all else; without pyplot, no window system is asked for
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    with matplotlib.rc_context({**_SETTINGS, "axes.edgecolor": "#b8bec8", "grid.color": "#dfe3e9"}):
        figure = Figure(figsize=(_SIZE[0] * 1.2, _SIZE[1] * 1.35), dpi=160, layout="constrained")
        axes = figure.subplots()
        drawing.draw(axes)
        title = f"{drawing.title} · {drawing.group}" if drawing.group else drawing.title
        figure.suptitle(title, fontsize=11, x=0.02, ha="left")
        if drawing.legend:
            handles = [Patch(color=shade, label=label) for shade, label in drawing.legend]
            figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=9)
        figure.savefig(path)


def _svg(drawing: Drawing) -> str:
    """Draw a figure for a page, in the colours of its theme."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=_SIZE, layout="constrained")
        drawing.draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(_INK, "var(--ink)").replace(_LINE, "var(--line)")
    for number, shade in enumerate(COLORS):
        text = text.replace(shade, f"var(--c{number})")
    # several figures are on one page
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{drawing.name}-", text)
    # the page sets the width; the view box keeps the shape
    text = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", text, count=1)
    label = html.escape(drawing.title, quote=True)
    # fonts of the page rather than those of matplotlib
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _figure(drawing: Drawing, folder: str) -> str:
    entries = "".join(f"<li>{_chip(shade)}{html.escape(label)}</li>" for shade, label in drawing.legend)
    legend = f'<ul class="legend">{entries}</ul>' if entries else ""
    files = " · ".join(f'<a href="{folder}/{drawing.name}.{kind}">{kind.upper()}</a>' for kind in ("png", "csv"))
    return (
        f'<figure class="card" id="{drawing.name}"><h3>{html.escape(drawing.title)}</h3>'
        f"<figcaption>{html.escape(drawing.caption)}</figcaption>{legend}{_svg(drawing)}"
        f'<p class="files">{files}</p></figure>'
    )


def _chip(shade: str) -> str:
    return f'<i class="chip" style="background: var(--c{COLORS.index(shade)})"></i>'


def _table(rows: Sequence[Row]) -> str:
    """Make the table of results."""
    several = len({row.model for row in rows}) > 1
    best = {model: max(row.means["mrr"] for row in rows if row.model == model) for model in {row.model for row in rows}}
    lines = []
    for number, row in enumerate(rows):
        low, high = row.interval
        spread = "" if math.isnan(row.deviation) else f" <small>± {row.deviation:.3f}</small>"
        difference = "–" if math.isnan(row.difference) else f"{row.difference:+.3f}"
        interval = "" if math.isnan(low) else f" <small>{low:+.3f} to {high:+.3f}</small>"
        label = row.label + (f", {row.model}" if several else "")
        mark = ' class="best"' if row.means["mrr"] == best[row.model] else ""
        lines.append(
            f"<tr><td>{_chip(COLORS[number % (len(COLORS) - 1)])}{html.escape(label)}</td>"
            f"<td{mark}>{row.means['mrr']:.3f}{spread}</td><td>{difference}{interval}</td>"
            f'<td class="wide">{row.means["hits_at_1"]:.3f}</td><td class="wide">{row.means["hits_at_10"]:.3f}</td>'
            f'<td>{row.means["seconds"]:.3g}</td><td class="wide">{len(row.seeds)}</td></tr>'
        )
    heads = ["negatives", "test MRR", "difference", "Hits@1", "Hits@10", "seconds", "seeds"]
    head = "".join(
        f"<th{' class=wide' if each in {'Hits@1', 'Hits@10', 'seeds'} else ''}>{each}</th>" for each in heads
    )
    # the sign of typesetters, rather than that of keyboards
    body = re.sub(r"(?<=[> ])-(?=[0-9])", "\N{MINUS SIGN}", "".join(lines))
    return f'<div class="card scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _page(records: Sequence[Record], figures: Mapping[str, Sequence[str]]) -> str:
    dataset = records[0].dataset
    models = ", ".join(dict.fromkeys(record.model for record in records))
    title = f"{models} on {dataset['name']}"
    rows = summarise(records)
    best = max(rows, key=lambda row: row.means["mrr"])
    tiles = {
        f"best test MRR ({best.label})": f"{best.means['mrr']:.3f}",
        "entities": f"{dataset['num_entities']:,}",
        "relations": f"{dataset['num_relations']:,}",
        "training triples": f"{dataset['num_triples']:,}",
    }
    of_tiles = "".join(
        f'<div class="tile"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>'
        for name, value in tiles.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<style>{importlib.resources.files("pykeen_dans.reporting").joinpath("style.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<h1>{html.escape(title)}</h1>
<p class="lead">What negatives came to: {len(records)} trainings, {len(rows)} kinds of negatives. Test triples, filtered
ranks. Differences are to the first row, paired by seed, with 95 % confidence.</p>
<div class="tiles">{of_tiles}</div>
<h2>Results</h2>
{_table(rows)}
{"".join(_section(name or "Side by side", each) for name, each in figures.items())}
<h2>How it was trained</h2>
{"".join(_settings(record) for record in _firsts(records))}
</main>
</body>
</html>
"""


def _section(name: str, figures: Sequence[str]) -> str:
    return f'<h2>{html.escape(name)}</h2><div class="grid">{"".join(figures)}</div>'


def _firsts(records: Sequence[Record]) -> list[Record]:
    """Take one record of each digest."""
    return list({record.digest: record for record in reversed(records)}.values())[::-1]


def _settings(record: Record) -> str:
    """Tell the configuration of a training."""
    content = {"recipe": record.recipe, "pipeline": record.pipeline, "environment": record.environment}
    text = html.escape(json.dumps(content, indent=2, ensure_ascii=False))
    name = html.escape(f"{record.label}, {record.model}")
    return f'<details class="card"><summary>{name}</summary><pre>{text}</pre></details>'
