"""The directive ``notebook``, which shows a notebook with its outputs as they were saved.

Markdown is translated as far as notebooks of these pages use it: headings, emphasis, code, links, lists and paragraphs.
"""

from __future__ import annotations

import base64
import hashlib
import pathlib
import re
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_UNDERLINES = "=-~"


def to_rst(text: str) -> str:
    """Translate Markdown to reST."""
    lines = []
    for line in text.splitlines():
        if match := re.match(r"(#{1,3}) (.*)", line):
            lines += [match.group(2), _UNDERLINES[len(match.group(1)) - 1] * len(match.group(2)), ""]
            continue
        line = re.sub(r"`([^`]+)`", r"``\1``", line)
        lines.append(re.sub(r"\[([^\]]+)\]\(([^)]+)\)", r"`\1 <\2>`__", line))
    return "\n".join(lines)


class Notebook(SphinxDirective):
    """Show the notebook of a path, relative to the folder of the page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Go through the cells."""
        _, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(path)
        blocks = []
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                blocks.append(to_rst(cell.source))
            elif cell.cell_type == "code":
                blocks.append(_directive("code-block:: python", cell.source))
                blocks += [self._show(output) for output in cell.outputs]
        return self.parse_text_to_nodes("\n\n".join(blocks), allow_section_headings=True)

    def _show(self, output: Any) -> str:
        """Show an output in its richest form."""
        data = output.get("data", {})
        if "text/html" in data:
            # styles of notebooks know nothing of dark pages
            table = re.sub(r"<style.*?</style>| border=\"\d+\"", "", data["text/html"], flags=re.DOTALL)
            return _directive("raw:: html", f'<div class="table-wrapper docutils container">{table}</div>')
        if "image/png" in data:
            content = base64.b64decode(data["image/png"])
            name = f"notebook-{hashlib.sha256(content).hexdigest()[:12]}.png"
            folder = pathlib.Path(self.env.app.outdir, "_images")
            folder.mkdir(parents=True, exist_ok=True)
            folder.joinpath(name).write_bytes(content)
            depth = "../" * self.env.docname.count("/")
            return _directive("raw:: html", f'<img class="output" alt="output" src="{depth}_images/{name}">')
        return _directive("code-block:: none", data.get("text/plain", ""))


def _directive(name: str, content: str) -> str:
    return f".. {name}\n\n" + "\n".join(f"    {line}" for line in content.splitlines())


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("notebook", Notebook)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
