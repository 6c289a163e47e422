"""What the documentation says is so."""

from __future__ import annotations

import ast
import inspect
import pathlib
import pkgutil
import re

import pytest

import pykeen_dans
from pykeen_dans.engine.curriculum import curriculum_resolver
from pykeen_dans.generators import generator_resolver
from pykeen_dans.graph.difficulty import difficulty_resolver
from pykeen_dans.sampling import GeneratedNegativeSampler
from pykeen_dans.training.callback import CurriculumTrainingCallback
from pykeen_dans.training.loops import CurriculumTrainingLoop

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs" / "source"

pytestmark = pytest.mark.skipif(not README.is_file(), reason="needs a checkout of the source")


def test_defaults_in_readme():
    parameters = {
        **inspect.signature(GeneratedNegativeSampler).parameters,
        **inspect.signature(CurriculumTrainingLoop).parameters,
        **inspect.signature(CurriculumTrainingCallback).parameters,
    }
    # sampler and callback have fit_steps, and the table of the sampler does not list it
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(rows) >= 12
    for name, default in rows:
        assert ast.literal_eval(default) == parameters[name].default, name


@pytest.mark.parametrize(
    ("option", "resolver"),
    [
        ("generator", generator_resolver),
        ("curriculum", curriculum_resolver),
        ("difficulty", difficulty_resolver),
    ],
)
def test_choices(option: str, resolver):
    text = " ".join((DOCS / "options.rst").read_text(encoding="utf-8").split())
    (listed,) = re.findall(rf"The option ``{option}`` of the \w+: ([^.]+)\.", text)
    assert {resolver.normalize(name) for name in re.findall(r"``([\w-]+)``", listed)} == set(resolver.options)


def test_all_modules_are_in_the_reference():
    documented = set()
    for page in (DOCS / "api").glob("*.rst"):
        documented |= set(re.findall(r"automodule:: (\S+)", page.read_text(encoding="utf-8")))
    found = [
        module
        for module in pkgutil.walk_packages(pykeen_dans.__path__, prefix="pykeen_dans.")
        if not any(part.startswith("_") for part in module.name.split("."))
    ]
    assert documented <= {module.name for module in found}
    # most packages are no more than the names of their modules; those of data sets are documented in their package
    modules = {module.name for module in found if not module.ispkg} | {
        "pykeen_dans.experiments",
        "pykeen_dans.datasets",
    }
    left_out = {"pykeen_dans.inspection.cli", "pykeen_dans.version"}
    left_out |= {name for name in modules if name.startswith("pykeen_dans.datasets.")}
    assert modules - documented == left_out
