"""Public classes tell all of their parameters, and have few of them."""

from __future__ import annotations

import inspect
import operator
import re

import pytest
from pykeen.sampling import BasicNegativeSampler

import pykeen_dans
from pykeen_dans.engine.curriculum import Curriculum, curriculum_resolver
from pykeen_dans.generators import Generator, generator_resolver
from pykeen_dans.graph.difficulty import difficulty_resolver
from pykeen_dans.multimodal import text_encoder_resolver
from pykeen_dans.sampling import GeneratedNegativeSampler
from pykeen_dans.training.vector_loss import VectorLoss

from .utils import GENERATORS, parameters_of

SAMPLERS = [
    pykeen_dans.DiffusionAdaptiveNegativeSampler,
    pykeen_dans.TwoWayGANNegativeSampler,
    pykeen_dans.HierarchicalNegativeSampler,
]
LOOPS = [
    pykeen_dans.CurriculumTrainingLoop,
    pykeen_dans.SharedNegativesTrainingLoop,
    pykeen_dans.DANSKGCTrainingLoop,
    pykeen_dans.DANSTrainingLoop,
    pykeen_dans.DHNSTrainingLoop,
]
CLASSES: list[type] = [
    GeneratedNegativeSampler,
    *SAMPLERS,
    pykeen_dans.FixedNegativeSampler,
    Generator,
    *sorted(generator_resolver, key=operator.attrgetter("__name__")),
    *LOOPS,
    pykeen_dans.CurriculumTrainingCallback,
    VectorLoss,
    Curriculum,
    *(
        cls
        for resolver in (curriculum_resolver, difficulty_resolver, text_encoder_resolver)
        # resolvers hold sets, and the order of tests must not depend on hashes
        for cls in sorted(resolver, key=operator.attrgetter("__name__"))
    ),
]


def documented(cls: type) -> list[str]:
    """List the parameters in the docstring of a class, or of its constructor, as PyKEEN has it in some places."""
    text = vars(cls).get("__doc__") or ""
    return re.findall(r"^\s*:param (\w+):\s*\S", text, flags=re.MULTILINE)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_each_parameter_is_documented(cls: type) -> None:
    """The docstring has the parameters of the signature, in its order, and no others."""
    # without a constructor of its own, a class may leave this to its base
    has_own = "__init__" in vars(cls)
    parameters = (
        [name for name in inspect.signature(vars(cls)["__init__"]).parameters if name != "self"] if has_own else []
    )
    assert documented(cls) == parameters


@pytest.mark.parametrize("cls", [GeneratedNegativeSampler, *SAMPLERS])
def test_few_options(cls: type) -> None:
    """A sampler has about 20 options of its own, whatever its generator is."""
    ours = set(parameters_of(cls)) - set(parameters_of(BasicNegativeSampler))
    assert {"generator", "generator_kwargs", "share"} <= ours
    assert len(ours) <= 20


@pytest.mark.parametrize("cls", SAMPLERS)
def test_no_option_of_a_generator_is_one_of_the_sampler(cls: type) -> None:
    """What belongs to a generator is in one place."""
    for generator in generator_resolver:
        shared = set(parameters_of(generator)) & set(parameters_of(cls))
        # the engine gives these to a generator; the levels of dhns are chosen by their names, and made by the sampler
        assert shared <= {"num_relations", "levels"}


@pytest.mark.parametrize("cls", [GeneratedNegativeSampler, *SAMPLERS, *LOOPS, pykeen_dans.CurriculumTrainingCallback])
def test_options_go_by_name(cls: type) -> None:
    """No option may be given by its position, so that more can be added."""
    parameters = inspect.signature(vars(cls).get("__init__", cls.__mro__[1].__init__)).parameters
    assert all(p.kind in {p.KEYWORD_ONLY, p.VAR_KEYWORD} for name, p in parameters.items() if name != "self")


def test_all_generators_are_named() -> None:
    """The docstring of samplers lists the generators by name; the published one has a page of its own."""
    text = GeneratedNegativeSampler.__doc__ or ""
    described = set(re.findall(r'``"([\w-]+)"``', text[text.index(":param generator:") : text.index(":param share:")]))
    assert {name.replace("-", "") for name in described} == set(generator_resolver.options) - {"publishedhierarchical"}
    assert set(GENERATORS.values()) <= described
