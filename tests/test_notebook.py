"""The notebook of the documentation."""

from __future__ import annotations

import os
import pathlib

import pytest

PATH = pathlib.Path(__file__).parent.parent / "docs" / "source" / "tutorial.ipynb"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PATH.is_file(), reason="needs a checkout of the source")]


def test_tutorial(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs from top to bottom, and shows the kinds of outputs that were saved."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    root = str(PATH.parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    # tests draw without a window, notebooks into themselves
    monkeypatch.delenv("MPLBACKEND", raising=False)
    saved = nbformat.read(PATH, as_version=4)
    run = nbformat.read(PATH, as_version=4)
    nbclient.NotebookClient(run, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()

    def kinds(notebook: object) -> list[list[list[str]]]:
        return [
            [sorted(output.data) for output in cell.outputs if output.output_type != "stream"]
            for cell in notebook.cells  # type: ignore[attr-defined]
            if cell.cell_type == "code"
        ]

    assert kinds(run) == kinds(saved)
    assert str(PATH.parents[2]) not in PATH.read_text(encoding="utf-8")
