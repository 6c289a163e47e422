"""What the documentation says is so."""

from __future__ import annotations

import math
import pathlib
import pkgutil
import re
import runpy

import pytest
from class_resolver import ClassResolver

import pykeen_dans
from pykeen_dans.engine.curriculum import curriculum_resolver
from pykeen_dans.generators import generator_resolver
from pykeen_dans.graph.difficulty import difficulty_resolver

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "pykeen_dans"
README = ROOT / "README.md"
DOCS = ROOT / "docs" / "source"
#: What is no room, and may import any of them, or be imported by what it needs
OUTSIDE = {"_plugin", "datasets", "experiments", "version"}

pytestmark = pytest.mark.skipif(not README.is_file(), reason="needs a checkout of the source")


def read(path: pathlib.Path) -> str:
    return path.read_text(encoding="utf-8")


def rooms() -> list[str]:
    """The rooms in the order of the page on architecture, the uppermost first."""
    table = read(DOCS / "architecture.rst").partition("\nRooms\n")[2].partition("\n\nBeside these")[0]
    return re.findall(r"^    \* - ``(\w+)``$", table, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("option", "owner", "resolver"),
    [
        ("generator", "sampler", generator_resolver),
        ("curriculum", "sampler", curriculum_resolver),
        ("difficulty", "generator", difficulty_resolver),
    ],
)
def test_choices(option: str, owner: str, resolver: ClassResolver) -> None:
    text = " ".join(read(DOCS / "options.rst").split())
    (listed,) = re.findall(rf"The option ``{option}`` of the {owner}: ([^.]+)\.", text)
    assert {resolver.normalize(name) for name in re.findall(r"``([\w-]+)``", listed)} == set(resolver.options)


def test_all_modules_are_in_the_reference() -> None:
    """Each package has a page, whose directive documents all of its modules."""
    documented = {name for page in (DOCS / "api").glob("*.rst") for name in re.findall(r"modules:: (\S+)", read(page))}
    packages = {
        module.name
        for module in pkgutil.iter_modules(pykeen_dans.__path__, prefix="pykeen_dans.")
        if module.ispkg and not module.name.rpartition(".")[2].startswith("_")
    }
    assert documented == packages
    index = read(DOCS / "api" / "index.rst")
    assert set(re.findall(r"^    (\w+)$", index, flags=re.MULTILINE)) == {name.split(".")[1] for name in packages}


def test_arrows_point_downwards() -> None:
    """Each room imports only rooms below it, also within functions."""
    order = rooms()
    assert set(order) == {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - OUTSIDE
    for position, room in enumerate(order):
        for path in PACKAGE.joinpath(room).rglob("*.py"):
            imported = set(re.findall(r"^\s*from \.\.(\w+)", read(path), flags=re.MULTILINE)) - OUTSIDE
            assert imported <= set(order[position + 1 :]), path


@pytest.fixture
def example() -> pathlib.Path:
    """The example of a generator, which is forgotten afterwards."""
    before = dict(generator_resolver.lookup_dict)
    yield DOCS / "examples" / "own_generator.py"
    generator_resolver.lookup_dict.clear()
    generator_resolver.lookup_dict.update(before)


def test_own_generator(example: pathlib.Path) -> None:
    """The example trains on Nations, and its negatives are used."""
    names = runpy.run_path(str(example), run_name="__main__")
    result = names["result"]
    assert all(math.isfinite(loss) for loss in result.losses)
    cls = names["BlurGenerator"]
    assert generator_resolver.lookup("blur") is cls
    coupling = result.training_loop.negative_sampler_kwargs["coupling"]
    engine = coupling.engine
    assert type(engine.generator) is cls
    assert engine.num_bands == 2
    assert engine.bank.filled > 0
    assert engine.generator.noise == sorted(engine.generator.noise, reverse=True)
    generator = cls(dim=2, num_relations=1, num_bands=2, noise=1.0)
    assert generator.adjust_hardness(1, 0, harder=True) and generator.noise == [1.0, 0.4]
    assert not all(generator.adjust_hardness(0, 0, harder=True) for _ in range(9)) and generator.noise[0] > 0.4
