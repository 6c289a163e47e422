"""Directives that read the reference off the code, so that it cannot fall behind.

``options`` makes a table of options: names and defaults from signatures, meanings from docstrings. An option without a
description is an error of the build. ``modules`` documents all modules of a package.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_PACKAGE = "pykeen_dans"
_PARAM = re.compile(
    r"^ *:param (\w+):(.*?)(?=^ *:(?:param|returns?|raises|yields)\b|^ *$|\Z)", flags=re.MULTILINE | re.DOTALL
)
#: What a description says of a default, which is not so where a subclass has another one
_DEFAULT = re.compile(r"[,.;] default: [^.]*\.?$", flags=re.IGNORECASE)
_ELSEWHERE = re.compile(r"see :class:`(\w+)`")
_SKIPPED = {"self", "args", "kwargs"}


def lookup(name: str) -> Any:
    """Import an object by its full name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def origins(obj: Any) -> list[Any]:
    """List an object, and the bases of a class to which its constructor passes ``**kwargs`` on, up to this package."""
    if not inspect.isclass(obj):
        return [obj]
    found: list[Any] = []
    for cls in obj.__mro__:
        if not cls.__module__.startswith(_PACKAGE):
            break
        if "__init__" not in vars(cls):
            continue
        found.append(cls)
        if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls).parameters.values()):
            break
    # options that a class describes itself come first, even where its constructor is inherited
    return found if obj in found else [obj, *found]


def descriptions(obj: Any) -> dict[str, str]:
    """Read the :param: fields of docstrings, those of a class before those of the bases that it refers to."""
    bases = {cls.__name__: cls for cls in (obj.__mro__ if inspect.isclass(obj) else ())}
    found: dict[str, str] = {}
    for part in origins(obj):
        # in some places, the constructor describes them, as in PyKEEN
        constructor = vars(part).get("__init__") if inspect.isclass(part) else None
        for name, text in _PARAM.findall(
            "\n\n".join(inspect.getdoc(each) or "" for each in (part, constructor) if each)
        ):
            text = " ".join(text.split())
            if (match := _ELSEWHERE.fullmatch(text)) and match.group(1) in bases:
                text = descriptions(bases[match.group(1)])[name]
            found.setdefault(name, text)
    return found


def _constructor(obj: Any) -> tuple[Any, ast.FunctionDef]:
    """Get a constructor or function, and its source."""
    function = obj.__init__ if inspect.isclass(obj) else obj
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(node, ast.FunctionDef)
    return function, node


def _as_written(node: ast.expr, function: Any, parameters: dict[str, Any]) -> str:
    """Write a default, by its value where names alone would tell a reader nothing."""
    if not any(isinstance(part, ast.Name) for part in ast.walk(node)):
        return ast.unparse(node)
    try:
        # the source is our own
        return repr(eval(compile(ast.Expression(node), "<default>", "eval"), {**function.__globals__, **parameters}))
    except NameError:
        return ast.unparse(node)


def _own_defaults(obj: Any) -> Iterator[tuple[str, str]]:
    """Read the defaults of one signature, as they are written in the source."""
    function, node = _constructor(obj)
    written: dict[str, str] = {}
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if default is not None:
            written[argument.arg] = _as_written(default, function, {})
    for name in inspect.signature(function).parameters:
        if name not in _SKIPPED:
            yield name, written.get(name, "")


def _replaced_defaults(obj: Any) -> dict[str, str]:
    """Read what a constructor puts before the ``**kwargs`` that it passes on: keys of its literal dictionaries."""
    function, node = _constructor(obj)
    # not from the signature, into which autodoc puts objects of its own
    parameters = function.__kwdefaults__ or {}
    replaced: dict[str, str] = {}
    for part in ast.walk(node):
        if isinstance(part, ast.Dict):
            for key, value in zip(part.keys, part.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    replaced.setdefault(key.value, _as_written(value, function, parameters))
    return replaced


def defaults(obj: Any) -> dict[str, str]:
    """Read the defaults of all options, those that are inherited by ``**kwargs`` included."""
    found: dict[str, str] = {}
    replaced: dict[str, str] = {}
    for part in origins(obj):
        for name, default in _own_defaults(part):
            found.setdefault(name, replaced.get(name, default))
        if inspect.isclass(part) and "__init__" in vars(part):
            replaced = {**_replaced_defaults(part), **replaced}
    return found


def changed(obj: Any) -> set[str]:
    """List the options that a class has beyond those of its bases, or with another default."""
    first, *bases = [cls for cls in origins(obj) if "__init__" in vars(cls)]
    before = defaults(bases[0]) if bases else {}
    return {name for name, default in defaults(first).items() if before.get(name) != default}


def typeset(text: str) -> str:
    """Typeset formulas between dollars, and shapes of tensors, both of which docstrings have as plain text."""
    text = re.sub(r"\$([^$]+)\$", lambda match: f":math:`{' '.join(match.group(1).split())}`", text)
    return re.sub(r"shape: (\([^()`]*\))", r"shape: ``\1``", text)


def _words(text: str) -> set[str]:
    return {word.strip() for word in text.split(",") if word.strip()}


class OptionsTable(SphinxDirective):
    """List the options of a class, with those that it inherits by ``**kwargs``.

    ``only`` and ``skip`` choose some of them; ``changed`` leaves those that bases have with the same default.
    """

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "only": directives.unchanged,
        "skip": directives.unchanged,
        "changed": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        obj = lookup(self.arguments[0])
        texts, found = descriptions(obj), defaults(obj)
        only = _words(self.options.get("only", "")) or set(found)
        skip = _words(self.options.get("skip", ""))
        for name in (only | skip) - set(found):
            raise self.error(f"{self.arguments[0]} has no option {name!r}")
        if "changed" in self.options:
            only &= changed(obj)
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 22 22 56", ""]
        lines += ["   * - option", "     - default", "     - meaning"]
        for name, default in found.items():
            if name not in only or name in skip:
                continue
            if "changed" in self.options and default:
                texts[name] = _DEFAULT.sub("", texts.get(name, "")) or None
            if texts.get(name) is None:
                raise self.error(f"the option {name!r} of {self.arguments[0]} is not described in any docstring")
            default = f"``{default}``" if default else "*required*"
            lines += [f"   * - ``{name}``", f"     - {default}", f"     - {typeset(texts[name])}"]
        container = nodes.Element()
        self.state.nested_parse(StringList(lines, source=self.arguments[0]), self.content_offset, container)
        return container.children


class Modules(SphinxDirective):
    """Document a package, and all of its modules, each in a section of its own."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"skip": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Find the modules."""
        package = importlib.import_module(self.arguments[0])
        skip = _words(self.options.get("skip", ""))
        names = [
            module.name
            for module in pkgutil.iter_modules(package.__path__, prefix=f"{package.__name__}.")
            if not module.name.rpartition(".")[2].startswith("_") and module.name.rpartition(".")[2] not in skip
        ]
        # what a package exports is documented where it is defined
        lines = [f".. automodule:: {package.__name__}", "   :no-members:", ""] if names else []
        for name in names or [package.__name__]:
            title = f"``{name}``"
            lines += [title, "-" * len(title), "", f".. automodule:: {name}", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("options", OptionsTable)
    app.add_directive("modules", Modules)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
