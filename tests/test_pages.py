"""The documentation as it is read: built without a network, and opened in a browser."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from .browser import open_browser, resize

ROOT = pathlib.Path(__file__).parent.parent
SOURCE = ROOT / "docs" / "source"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not SOURCE.is_dir(), reason="needs a checkout of the source")]

#: What sticks out of the page or is cut off by it; a wide table or program may be scrolled by itself
_STICKS_OUT = """
const width = document.documentElement.clientWidth, found = [];
if (document.documentElement.scrollWidth > width) found.push("page");
for (const each of document.querySelectorAll("article table, article pre, article img, article svg, article math")) {
    let box = each, scrolled = false;
    while ((box = box.parentElement) && box.tagName != "ARTICLE")
        scrolled ||= ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
    scrolled ||= ["auto", "scroll"].includes(getComputedStyle(each).overflowX);
    const edge = each.getBoundingClientRect();
    if (!scrolled && (edge.right > width + 1 || edge.left < -1)) found.push(each.tagName);
}
return found;
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Build all pages, where a warning is an error, and every connection is refused."""
    pytest.importorskip("furo")
    target = tmp_path_factory.mktemp("pages")
    refused = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **refused, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(SOURCE), str(target)]
    made = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return target


def test_links_to_pykeen(pages: pathlib.Path) -> None:
    """Bases lead to the pages of PyKEEN, although no inventory was downloaded."""
    url = "https://pykeen.readthedocs.io/en/stable/api/pykeen.training.SLCWATrainingLoop.html"
    assert url in (pages / "api" / "training.html").read_text(encoding="utf-8")


def test_nothing_sticks_out_or_is_loaded_from_elsewhere(pages: pathlib.Path) -> None:
    paths = sorted(path for path in pages.rglob("*.html") if not path.relative_to(pages).parts[0].startswith("_"))
    assert len(paths) > 20
    with open_browser() as driver:
        for path in paths:
            for width in (1280, 375):
                resize(driver, width)
                driver.get(path.as_uri())
                assert driver.execute_script(_STICKS_OUT) == [], (path, width)
        assert driver.get_log("browser") == []
        events = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
        asked = {
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        }
        assert asked
        assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
