"""What all generators have in common, those that are controls of others, and the ridge within the diffusion."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pykeen.typing import FloatTensor
from torch import Tensor

from pykeen_dans.engine.settings import UpdateBudget
from pykeen_dans.generators import (
    FitReport,
    Generator,
    PriorGenerator,
    RidgeGenerator,
    UniformGenerator,
    generator_resolver,
)
from pykeen_dans.generators.diffusion_process import DiffusionProcess
from pykeen_dans.graph import Graph
from pykeen_dans.multimodal import published as _published  # noqa: F401  # registers its generator
from pykeen_dans.space import EntitySpace
from pykeen_dans.space.combination import TranslationCombination
from pykeen_dans.utils.budget import Budget
from pykeen_dans.utils.validation import validate_keywords

from .toys import (
    DIM,
    NUM_ENTITIES,
    NUM_RELATIONS,
    QUICK,
    clustered_graph,
    clustered_space,
    clustered_vectors,
    functional_graph,
    make_engine,
    random_space,
    seeded,
)

SPACE = clustered_space()
GRAPH = clustered_graph()
QUERIES = GRAPH.index.select(torch.arange(GRAPH.index.num_queries))
NAMES = ("diffusion", "hierarchical", "prior", "published-hierarchical", "ridge", "two-way-gan", "uniform")
#: Those whose networks are trained
LEARNING = ("diffusion", "hierarchical", "published-hierarchical", "two-way-gan")


def make(name: str, seed: int = 0, **kwargs: Any) -> Generator:
    torch.manual_seed(seed)
    return generator_resolver.make(
        name, dim=DIM, num_relations=NUM_RELATIONS, **{"num_bands": 3, **QUICK.get(name, {}), **kwargs}
    )


def fit(generator: Generator, *, space: EntitySpace = SPACE, graph: Graph = GRAPH, **budget: Any) -> FitReport:
    torch.manual_seed(0)
    return generator.fit(space=space, graph=graph, budget=Budget(**budget), random=seeded())


def generate(generator: Generator, *, seed: int = 0) -> FloatTensor:
    return generator.generate(space=SPACE, graph=GRAPH, queries=QUERIES, random=seeded(seed))


def state_of(module: torch.nn.Module) -> dict[str, Any]:
    return copy.deepcopy(dict(module.state_dict()))


def is_as_before(module: torch.nn.Module, before: dict[str, Any]) -> bool:
    """Compare parameters, and whatever else a generator keeps."""
    return is_equal(before, dict(module.state_dict()))


def is_equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(is_equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(is_equal, first, second))
    return first == second


# All of them


def test_names() -> None:
    normalised = {generator_resolver.normalize(name) for name in NAMES}
    assert normalised <= set(generator_resolver.options)
    assert {generator_resolver.lookup(name) for name in NAMES} == set(generator_resolver.lookup_dict.values())


@pytest.mark.parametrize("name", NAMES)
def test_vectors_have_bands_and_sources(name: str) -> None:
    generator = make(name)
    fit(generator, units=2)
    vectors = generate(generator)
    assert vectors.shape == (len(QUERIES), 3, len(generator.sources), DIM)
    assert vectors.dtype == torch.float32
    assert torch.isfinite(vectors).all()
    assert not vectors.requires_grad
    assert len(generator.spaces(SPACE)) == len(generator.sources)
    assert all(space.dim == DIM for space in generator.spaces(SPACE))


@pytest.mark.parametrize("name", NAMES)
def test_generating_changes_nothing_and_follows_the_seed(name: str) -> None:
    generator = make(name)
    fit(generator, units=2)
    before, random_state = state_of(generator), torch.get_rng_state()
    first, again, other = (generate(generator, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert is_as_before(generator, before)
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (dict(seconds=0.0), 0),
        (dict(seconds=0.0, units=50), 0),
        (dict(seconds=0.0, least=4), 4),
        (dict(seconds=1e-9, least=3, units=50), 3),
        # a number that was asked for is not exceeded
        (dict(units=2, least=7), 2),
        (dict(seconds=100.0, units=3, least=2), 3),
    ],
    ids=str,
)
def test_training_ends_with_its_budget(name: str, budget: dict[str, Any], expected: int) -> None:
    """However little time there is, networks take their least number of steps."""
    generator = make(name)
    before = {key: parameter.detach().clone() for key, parameter in generator.named_parameters()}
    report = fit(generator, **budget)
    learns = name in LEARNING and expected > 0
    assert report.steps == (expected if learns else 0)
    assert bool(report.metrics) == learns
    same = all(torch.equal(before[key], parameter) for key, parameter in generator.named_parameters())
    assert same == (not learns)


@pytest.mark.parametrize("name", LEARNING)
def test_training_works_where_gradients_are_off(name: str) -> None:
    """The engine is asked within validation losses, too, which PyKEEN computes in inference mode."""
    engine = make_engine(name)
    with torch.inference_mode():
        report = engine.update(engine.reference_space(), None, UpdateBudget(fit_steps=2, refresh_queries=5))
    assert report.fit.steps == 2


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("diffusion", dict(bands=(30, 20, 10), difficulty="degree", num_steps=None, mu=0.5)),
        ("ridge", dict(bands=(30, 20, 10), difficulty="constant", difficulty_kwargs=dict(value=0.25))),
        ("two-way-gan", dict(pathways=("entity",), distances=(1.0, 0.7, 0.6), sigma=0.0)),
        ("prior", dict(pathways=("relation", "entity"), distances=(0.9, 0.7, 0.6))),
        ("hierarchical", dict(shared=False, noise_loss="l1")),
        ("uniform", {}),
    ],
)
def test_options_survive_json(name: str, kwargs: dict[str, Any]) -> None:
    """What PyKEEN writes down of a pipeline makes the same generator again."""
    ours, theirs = make(name, **kwargs), make(name, **json.loads(json.dumps(kwargs)))
    for generator in (ours, theirs):
        fit(generator, units=2)
    assert torch.equal(generate(ours), generate(theirs))
    assert ours.sources == theirs.sources


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_are_told_with_the_valid_ones(name: str) -> None:
    reserved = ("dim", "num_relations", "num_bands")
    with pytest.raises(
        ValueError, match=r"generator_kwargs has film_dim, which \w+Generator does not take; it"
    ) as error:
        validate_keywords("generator", generator_resolver, name, {"film_dim": 3}, reserved=reserved)
    valid = {"diffusion": "hidden_dim", "ridge": "mu", "hierarchical": "hidden_dim", "two-way-gan": "sigma"}
    assert valid.get(name, "") in str(error.value)
    # what the engine gives is not offered
    assert "num_bands" not in str(error.value)
    with pytest.raises(ValueError, match=r"generator='wgan' is unknown; choose one of .*prior.*uniform"):
        validate_keywords("generator", generator_resolver, "wgan", None)


# Those that are controls


@pytest.mark.parametrize("name", LEARNING)
def test_the_untrained_never_learn_anything(name: str) -> None:
    """Neither networks nor regressions nor statistics ever see a positive, whatever the budget."""
    generator = make(name, trained=False)
    before = state_of(generator)
    assert fit(generator, units=20, least=10) == FitReport()
    assert is_as_before(generator, before)


def test_the_untrained_diffusion_knows_nothing_of_the_query() -> None:
    permuted = GRAPH.index.select(torch.randperm(len(QUERIES), generator=seeded()))
    for trained in (False, True):
        generator = make("diffusion", trained=trained, mu=0.0)
        fit(generator, units=2)
        result = generator.generate(space=SPACE, graph=GRAPH, queries=permuted, random=seeded())
        assert torch.equal(result, generate(generator)) == (not trained)


@pytest.mark.parametrize("num_steps", [4, None])
@pytest.mark.parametrize("options", [{}, {"bands": (40, 10, 2), "mu": 0.0}, {"conditioned": False}], ids=str)
def test_ridge_is_the_diffusion_without_any_step(num_steps: int | None, options: dict[str, Any]) -> None:
    """It is fitted without a step of the network, and makes the same vectors bit for bit."""
    ridge = make("ridge", num_steps=num_steps, **options)
    assert isinstance(ridge, RidgeGenerator)
    before = generate(ridge)
    parameters = {key: parameter.detach().clone() for key, parameter in ridge.named_parameters()}
    report = fit(ridge, units=50, least=10)
    assert report.steps == 0
    assert all(torch.equal(parameters[key], parameter) for key, parameter in ridge.named_parameters())
    assert (ridge.process(0).gaussian.weight != 0).any() == options.get("conditioned", True)
    assert not torch.equal(generate(ridge), before)
    diffusion = make("diffusion", num_steps=num_steps, **options)
    assert fit(diffusion, units=0).steps == 0
    assert torch.equal(generate(ridge), generate(diffusion))
    # which are others once there are steps
    fit(diffusion, units=1)
    assert not torch.equal(generate(ridge), generate(diffusion))


@pytest.mark.parametrize("pathways", [("entity", "relation"), ("entity",), ("relation",)])
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_prior_is_the_untrained_gan_bit_for_bit(pathways: tuple[str, ...], sigma: float) -> None:
    prior, gan, trained = (
        make(name, seed, pathways=pathways, sigma=sigma, **kwargs)
        for seed, (name, kwargs) in enumerate(
            [("prior", {}), ("two-way-gan", dict(trained=False, residual=False)), ("two-way-gan", {})]
        )
    )
    for generator in (prior, gan, trained):
        fit(generator, units=3)
    for _ in range(2):
        assert torch.equal(generate(prior), generate(gan))
        assert not torch.equal(generate(prior), generate(trained))
        # moved bands, too
        assert prior.adjust_hardness(1, 0, harder=True) == gan.adjust_hardness(1, 0, harder=True) is True


def test_prior_is_near_what_it_is_named_after() -> None:
    """With no noise and at the full distance, the pathways are the kept entity, and entity and relation."""
    prior = make("prior", sigma=0.0, distances=(1.0, 0.6, 0.5))
    assert isinstance(prior, PriorGenerator)
    vectors = generate(prior)
    torch.testing.assert_close(vectors[:, 0, 0], SPACE.vectors[QUERIES.kept])
    torch.testing.assert_close(vectors[:, 0, 1], SPACE.queries(QUERIES.kept, QUERIES.relations, QUERIES.sides))
    # the other bands are points on the way to a known answer, which is drawn first
    answers = SPACE.vectors[GRAPH.index.sample_answer(QUERIES.rows, seeded())]
    for band, distance in ((1, 0.6), (2, 0.5)):
        torch.testing.assert_close(vectors[:, band], answers[:, None] + distance * (vectors[:, 0] - answers[:, None]))


def test_uniform_generates_nothing() -> None:
    """An engine with it makes no bank, and whoever asks nevertheless gets random entities."""
    uniform = make("uniform")
    assert isinstance(uniform, UniformGenerator)
    assert not uniform.generates
    vectors = generate(uniform)
    known = {tuple(vector) for vector in SPACE.vectors.tolist()}
    assert {tuple(vector) for vector in vectors.flatten(end_dim=-2).tolist()} <= known
    counts = torch.cdist(vectors.flatten(end_dim=-2), SPACE.vectors).argmin(dim=-1).bincount(minlength=NUM_ENTITIES)
    expected = 3 * len(QUERIES) / NUM_ENTITIES
    assert (counts - expected).abs().max() < 4.5 * expected**0.5
    engine = make_engine("uniform")
    assert not engine.generates
    engine.prepare()
    engine.prepare_alone(fit_steps=5)
    assert engine.generator is None
    assert "bank" not in vars(engine)
    # all others do
    for name in NAMES:
        assert generator_resolver.lookup(name).generates == (name != "uniform")


# The ridge within the diffusion


def fitting(generator: RidgeGenerator, graph: Graph) -> tuple[DiffusionProcess, Callable[[EntitySpace], bool]]:
    """Get the process of a generator, and what tells whether it was fitted anew."""
    process, random = generator.process(0), seeded()

    def fits(space: EntitySpace) -> bool:
        surroundings = generator.surroundings(space, graph)
        return process.fit_gaussian(space=space, graph=graph, surroundings=surroundings, random=random)

    return process, fits


def test_the_ridge_is_fitted_anew_only_where_it_pays() -> None:
    """An unchanged space, or one that has hardly moved, keeps its ridge; one that has moved gets another."""
    process, fits = fitting(RidgeGenerator(dim=DIM, num_relations=NUM_RELATIONS), GRAPH)
    assert fits(SPACE), "the first fit always pays"
    assert [fits(SPACE) for _ in range(20)].count(True) <= 2
    entities, relations = clustered_vectors()
    make_space = functools.partial(EntitySpace.create, relations=relations, combination=TranslationCombination())
    hardly = make_space(entities=entities + 1e-3 * torch.randn(entities.shape, generator=seeded(1)))
    assert [fits(hardly) for _ in range(20)].count(True) <= 2
    # vectors of other entities: all that the ridge knows is wrong
    weight = process.gaussian.weight.clone()
    assert fits(make_space(entities=entities.roll(20, dims=0).flip(-1)))
    assert not torch.allclose(process.gaussian.weight, weight)


def test_the_ridge_of_many_features_is_kept_too() -> None:
    """What it is compared with is its error on positives that it was not fitted to, larger by a tenth here."""
    graph, space = functional_graph(6000), random_space(12_000, 192)
    _, fits = fitting(RidgeGenerator(dim=192, num_relations=5), graph)
    assert fits(space)
    assert [fits(space) for _ in range(10)].count(True) <= 1
