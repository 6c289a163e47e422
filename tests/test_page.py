"""The page of a report, in a real browser where there is one."""

from __future__ import annotations

import csv
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from matplotlib.image import imread

from pykeen_dans.commands import main
from pykeen_dans.reporting.figures import drawings_of

from .records import basic, generated

#: The figures of a training with generated negatives
OWN = ["curriculum", "hardness", "map", "generator", "difficulty"]
TOGETHER = ["mrr-epochs", "mrr-seconds", "false-negatives"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Make the page of two kinds of negatives with two seeds each."""
    folder = tmp_path_factory.mktemp("report")
    for seed in range(2):
        basic(seed, 0.5 + 0.01 * seed).write(folder / "runs")
        generated(seed, 0.6 + 0.03 * seed, label="<dans> & more").write(folder / "runs")
    path = folder / "page.html"
    result = CliRunner().invoke(main, ["report", str(folder / "runs"), "--output", str(path)])
    assert result.exit_code == 0, result.output
    assert str(path) in result.output
    return path


def test_needs_nothing_else(page: pathlib.Path) -> None:
    text = page.read_text()
    # names of spaces in SVG are addresses that nobody visits
    addresses = set(re.findall(r"https?://[^\"'\s<]+", text))
    assert all(address.startswith("http://www.w3.org/") for address in addresses)
    assert "<script" not in text and "@import" not in text
    assert "&lt;dans&gt; &amp; more" in text and "<dans>" not in text
    assert "prefers-color-scheme: dark" in text
    # text is text, and colours are those of the theme
    assert ">validation MRR</text>" in text
    assert "var(--c0)" in text and "#0072b2" not in text.partition("</style>")[2]
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))


def test_each_figure_is_a_picture_and_a_table(page: pathlib.Path) -> None:
    folder = page.with_name("page_files")
    names = {*TOGETHER, *(f"{name}-1" for name in OWN)}
    assert {path.stem for path in folder.glob("*.png")} == {path.stem for path in folder.glob("*.csv")} == names
    for path in folder.glob("*.png"):
        assert imread(path).std() > 0.05
    rows = list(csv.DictReader((folder / "mrr-seconds.csv").open()))
    assert [row["negatives"] for row in rows] == ["basic"] * 3 + ["<dans> & more"] * 3
    assert [float(row["mrr"]) for row in rows[:3]] == [0.1, 0.3, 0.4]
    assert all(f'href="page_files/{name}.{kind}"' in page.read_text() for name in names for kind in ("png", "csv"))


def test_figures_for_which_nothing_is_known_are_left_out() -> None:
    assert [drawing.name for drawing in drawings_of([basic()])] == TOGETHER
    unknown = generated(tracked={}, points=None, difficulty=None)
    assert [drawing.name for drawing in drawings_of([unknown])] == [*TOGETHER, "curriculum-0"]
    assert [drawing.name for drawing in drawings_of([basic(negatives=[])])] == TOGETHER[:2]


def test_bad_input(tmp_path: pathlib.Path) -> None:
    result = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {tmp_path} has no records") and result.output.count("\n") == 1
    basic().write(tmp_path)
    result = CliRunner().invoke(main, ["report", str(tmp_path), "--output", str(tmp_path / "no" / "page.html")])
    assert result.exit_code == 2
    assert "make it first" in result.output


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a browser with a profile of its own."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install pykeen-dans[browser]")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs chromium and chromedriver, e.g. Debian's chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(f"--{flag}")
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield made
    made.quit()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_in_a_browser(page: pathlib.Path, browser: Any, width: int, scheme: str) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    assert browser.execute_script(
        "const page = document.documentElement; return page.scrollWidth <= page.clientWidth && page.clientWidth > 350"
    )
    # the table of results fits, too
    assert browser.execute_script(
        "const table = document.querySelector('.scroll'); return table.scrollWidth <= table.clientWidth"
    )
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(svg => {"
        "const box = svg.getBoundingClientRect(); return [box.left, box.right, box.width, box.height]; })"
    )
    assert len(boxes) == len(TOGETHER) + len(OWN)
    for left, right, breadth, height in boxes:
        assert 0 <= left < right <= width
        assert breadth > 250 and height > 150
    # neither the text of the page nor that of figures vanishes in the background
    shades = browser.execute_script(
        "const shade = (node, key) => getComputedStyle(node)[key].match(/[0-9]+/g).slice(0, 3).map(Number);"
        "return [shade(document.body, 'backgroundColor'), shade(document.body, 'color'),"
        "shade(document.querySelector('figure svg text'), 'fill')]"
    )
    background, text, of_figures = (sum(shade) / 3 for shade in shades)
    assert (background > 128) == (scheme == "light")
    assert abs(background - text) > 128 and abs(background - of_figures) > 128
    # letters of figures stay readable on a phone
    heights = browser.execute_script(
        "return [...document.querySelectorAll('figure svg text')].map(text => text.getBoundingClientRect().height)"
    )
    assert min(height for height in heights if height) > 8
