"""A directive for tables of options, read off the code: names and defaults from signatures, meanings from docstrings.

So the reference page cannot fall behind the code, and an option without a description is an error of the build.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_PARAM = re.compile(r"^ *:param (\w+):(.*?)(?=^ *:\w|^ *$|\Z)", flags=re.MULTILINE | re.DOTALL)
_SKIPPED = {"self", "args", "kwargs"}


def lookup(name: str) -> Any:
    """Import an object by its full name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def descriptions(obj: Any) -> dict[str, str]:
    """Read the :param: fields of a docstring, and of that of its constructor."""
    found: dict[str, str] = {}
    for part in (obj, getattr(obj, "__init__", None)):
        for name, text in _PARAM.findall(inspect.getdoc(part) or ""):
            found.setdefault(name, " ".join(text.split()))
    return found


def defaults(obj: Any) -> dict[str, str]:
    """Read the defaults of a constructor or function, as they are written in the source."""
    function = obj.__init__ if inspect.isclass(obj) else obj
    written: dict[str, str] = {}
    source = inspect.cleandoc("\n" + inspect.getsource(function)) if callable(function) else ""
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    parameters = inspect.signature(function).parameters
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if isinstance(default, ast.Name):
            # the name of a constant tells a reader nothing; autodoc puts its own objects into the signature
            written[argument.arg] = repr(function.__kwdefaults__[argument.arg])
        elif default is not None:
            written[argument.arg] = ast.unparse(default)
    return {name: written.get(name, "") for name in parameters if name not in _SKIPPED}


def typeset(text: str) -> str:
    """Typeset formulas between dollars, and shapes of tensors, both of which docstrings have as plain text."""
    text = re.sub(r"\$([^$]+)\$", lambda match: f":math:`{' '.join(match.group(1).split())}`", text)
    return re.sub(r"shape: (\([^()`]*\))", r"shape: ``\1``", text)


def _words(text: str) -> set[str]:
    return {word.strip() for word in text.split(",") if word.strip()}


class OptionsTable(SphinxDirective):
    """List the options of a class.

    ``documented-by`` names further classes whose docstrings describe some of them, ``renamed`` those that have another
    name there, ``only`` and ``skip`` choose.
    """

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "documented-by": directives.unchanged,
        "renamed": directives.unchanged,
        "only": directives.unchanged,
        "skip": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        obj = lookup(self.arguments[0])
        renamed = dict(pair.split("=") for pair in _words(self.options.get("renamed", "")))
        texts = descriptions(obj)
        for name in self.options.get("documented-by", "").split():
            texts = {**descriptions(lookup(name)), **texts}
        found = defaults(obj)
        only = _words(self.options.get("only", "")) or set(found)
        skip = _words(self.options.get("skip", ""))
        for name in (only | skip) - set(found):
            raise self.error(f"{self.arguments[0]} has no option {name!r}")
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 22 22 56", ""]
        lines += ["   * - option", "     - default", "     - meaning"]
        for name, default in found.items():
            if name not in only or name in skip:
                continue
            text = texts.get(renamed.get(name, name))
            if text is None:
                raise self.error(f"the option {name!r} of {self.arguments[0]} is not described in any docstring")
            default = f"``{default}``" if default else "*required*"
            lines += [f"   * - ``{name}``", f"     - {default}", f"     - {typeset(text)}"]
        container = nodes.Element()
        self.state.nested_parse(StringList(lines, source=self.arguments[0]), self.content_offset, container)
        return container.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("options", OptionsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
