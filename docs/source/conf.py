"""Configuration of Sphinx. Building needs no network, and neither does reading."""

import pathlib
import sys
import tempfile
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent.joinpath("_ext")))

import pykeen.version
from offline import write_inventory
from options import typeset
from sphinx.application import Sphinx

from pykeen_dans.version import VERSION

project = "pykeen-dans"
author = "pykeen-dans contributors"
copyright = "2026, pykeen-dans contributors"
version = release = VERSION

extensions = ["sphinx.ext.autodoc", "sphinx.ext.intersphinx", "sphinx_copybutton", "notebook", "offline", "options"]

_PYKEEN = pykeen.version.get_version()
_inventory = write_inventory(pathlib.Path(tempfile.mkdtemp(prefix="pykeen-dans-docs-"), "pykeen.inv"), _PYKEEN)
intersphinx_mapping = {"pykeen": ("https://pykeen.readthedocs.io/en/stable/", str(_inventory))}

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": True}
# defaults as they are written in the source
autodoc_preserve_defaults = True
add_module_names = False

exclude_patterns = ["**.ipynb"]
html_theme = "furo"
html_title = f"pykeen-dans {VERSION}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
# the search finds what an index would list
html_use_index = False
html_domain_indices = False
html_math_renderer = "mathml"
pygments_style = "default"
copybutton_prompt_text = "$ "


def typeset_lines(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Typeset what docstrings have as plain text."""
    lines[:] = typeset("\n".join(lines)).split("\n")


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("autodoc-process-docstring", typeset_lines)
