"""What makes the pages whole without a network, while they are built and while they are read.

Formulas become MathML, which browsers set by themselves. Links to PyKEEN's documentation come from an inventory that is
made of the installed package, so that none has to be downloaded.
"""

from __future__ import annotations

import importlib
import inspect
import pathlib
import zlib

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

#: Packages of PyKEEN with a page for each of their public names
_PACKAGES = (
    "datasets",
    "evaluation",
    "losses",
    "metrics.ranking",
    "models",
    "nn.representation",
    "pipeline",
    "regularizers",
    "sampling",
    "sampling.filtering",
    "training",
    "training.callbacks",
    "triples",
)
_ROLES = ((inspect.isclass, "class"), (inspect.isfunction, "function"))


def _visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def inventory_lines() -> list[str]:
    """List the public names of PyKEEN, also by the module that defines them, as bases are shown."""
    lines = {}
    for package in _PACKAGES:
        module = importlib.import_module(f"pykeen.{package}")
        for name in module.__all__:
            value = getattr(module, name)
            role = next((role for is_one, role in _ROLES if is_one(value)), None)
            if role is not None and value.__module__.startswith("pykeen."):
                page = f"pykeen.{package}.{name}"
                for known in {page, f"{value.__module__}.{value.__qualname__}"}:
                    lines[known] = f"{known} py:{role} 1 api/{page}.html#{page} -"
    return sorted(lines.values())


def write_inventory(path: pathlib.Path, version: str) -> pathlib.Path:
    """Write what Sphinx would have downloaded."""
    header = (
        "# Sphinx inventory version 2\n# Project: PyKEEN\n"
        f"# Version: {version}\n# The remainder of this file is compressed using zlib.\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.encode() + zlib.compress("\n".join(inventory_lines()).encode() + b"\n"))
    return path


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the formulas."""
    app.add_html_math_renderer("mathml", inline_renderers=(_visit_inline, None), block_renderers=(_visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
