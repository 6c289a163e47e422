"""Configuration of Sphinx. Building needs no network."""

import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent.joinpath("_ext")))

from options import typeset
from sphinx.application import Sphinx

from pykeen_dans.version import VERSION

project = "pykeen-dans"
author = "pykeen-dans contributors"
copyright = "2026, pykeen-dans contributors"
version = release = VERSION

extensions = ["sphinx.ext.autodoc", "options"]


autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": True}
# defaults as they are written in the source
autodoc_preserve_defaults = True
add_module_names = False

html_theme = "alabaster"
html_theme_options = {"description": "Generated negative samples for PyKEEN", "fixed_sidebar": True}
html_show_sourcelink = False


def typeset_lines(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Typeset what docstrings have as plain text."""
    lines[:] = typeset("\n".join(lines)).split("\n")


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("autodoc-process-docstring", typeset_lines)
