"""Pictures are real, and show what they were given."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from pykeen_dans.inspection.curve import ValidationCurve
from pykeen_dans.inspection.diagnostics import NegativesReport, NegativeStatistics
from pykeen_dans.inspection.pictures import draw_curves, draw_hardness, save_report

CURVES = {
    "basic": ValidationCurve(epochs=[1, 2, 3], seconds=[1.0, 2.0, 3.0], values=[0.1, 0.2, 0.3]),
    "dans_kgc": ValidationCurve(epochs=[1, 2, 3], seconds=[2.0, 3.0, 4.0], values=[0.2, 0.3, 0.5]),
}


def _statistics(percentiles: torch.Tensor) -> NegativeStatistics:
    return NegativeStatistics(count=len(percentiles), known=0.0, held_out=0.0, diversity=1.0, percentiles=percentiles)


@pytest.fixture
def report() -> NegativesReport:
    generator = torch.Generator().manual_seed(0)
    bands = [_statistics(torch.rand(50, generator=generator) * width) for width in (0.6, 0.3, 0.1)]
    # a band without any candidate must not be in the way
    bands.append(_statistics(torch.empty(0)))
    return NegativesReport(drawn=bands[0], bands=tuple(bands), from_bank=0.25, targets=(0.2, 0.1, 0.05, 0.02))


def _check_png(path: pathlib.Path, *, aspect: float) -> None:
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    picture = imread(path)
    height, width = picture.shape[:2]
    assert width / height == pytest.approx(aspect, rel=0.01)
    # neither blank nor black: the page is white, and some of it has ink and colour
    ink = (picture[..., :3] < 0.9).any(axis=-1).mean()
    assert 0.005 < ink < 0.5
    assert (np.ptp(picture[..., :3], axis=-1) > 0.3).sum() > 100


def test_save(tmp_path: pathlib.Path, report: NegativesReport):
    both = tmp_path / "both.png"
    save_report(both, curves=CURVES, report=report, title="two panels")
    _check_png(both, aspect=11 / 4)
    one = tmp_path / "one.png"
    save_report(one, curves=CURVES)
    _check_png(one, aspect=5.5 / 4)
    other = tmp_path / "other.png"
    save_report(other, report=report)
    _check_png(other, aspect=5.5 / 4)
    assert len({path.read_bytes() for path in (both, one, other)}) == 3
    vector = tmp_path / "both.svg"
    save_report(vector, curves=CURVES, report=report)
    assert b"<svg" in vector.read_bytes()


def test_curves_are_the_data():
    axes = Figure().subplots()
    draw_curves(axes, CURVES)
    for line, (name, curve) in zip(axes.get_lines(), CURVES.items(), strict=True):
        assert line.get_label() == name
        assert list(line.get_xdata()) == curve.seconds
        assert list(line.get_ydata()) == curve.values


def test_axes_mislead_nobody():
    axes = Figure().subplots()
    draw_curves(axes, CURVES)
    assert axes.get_ylim()[0] == 0 == axes.get_xlim()[0]
    # differences between good models would not be seen from there
    good = {
        name: ValidationCurve(epochs=[1], seconds=[1.0], values=[value]) for name, value in (("a", 0.9), ("b", 0.91))
    }
    axes = Figure().subplots()
    draw_curves(axes, good)
    assert 0.8 < axes.get_ylim()[0] < 0.9


@pytest.mark.parametrize("panel", ["curves", "hardness"])
def test_nothing_overlaps(panel: str, report: NegativesReport):
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    draw_curves(axes, CURVES) if panel == "curves" else draw_hardness(axes, report)
    figure.suptitle("title")
    figure.draw_without_rendering()
    legend = axes.get_legend().get_window_extent()
    assert legend.y0 >= axes.get_window_extent().y1
    assert not legend.overlaps(figure._suptitle.get_window_extent())


def test_targets_are_shown(report: NegativesReport):
    axes = Figure().subplots()
    draw_hardness(axes, report)
    (targets,) = [artist for artist in axes.collections if artist.get_label() == "target"]
    assert targets.get_offsets().tolist() == [[1, 20], [2, 10], [3, 5], [4, 2]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["band 0", "band 1", "band 2", "band 3"]


def test_nothing_to_draw(tmp_path: pathlib.Path):
    with pytest.raises(ValueError, match="nothing to draw"):
        save_report(tmp_path / "nothing.png")
    assert not list(tmp_path.iterdir())
