"""The diffusion generator and its parts, on a graph whose relations lead from cluster to cluster."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.typing import FloatTensor

from pykeen_dans.generators.base import Budget, World
from pykeen_dans.generators.denoiser import Condition
from pykeen_dans.generators.diffusion import DiffusionGenerator
from pykeen_dans.space.combination import TranslationCombination
from pykeen_dans.space.entity_space import EntitySpace

from .toys import (
    CLUSTER_SIZE,
    DIM,
    NUM_ENTITIES,
    NUM_RELATIONS,
    clustered_space,
    clustered_vectors,
    clustered_world,
    seeded,
)

SPACE = clustered_space()
#: the answers' cluster is not told by the condition, but follows from kept entity, relation and side
WORLD = clustered_world(typed=False)
QUERIES = WORLD.index.select(torch.arange(WORLD.index.num_queries))


def make_generator(seed: int = 0, **kwargs: Any) -> DiffusionGenerator:
    torch.manual_seed(seed)
    return DiffusionGenerator(dim=DIM, num_relations=NUM_RELATIONS, **{"batch_size": 128, "hidden_dim": 64, **kwargs})


def fit(generator: DiffusionGenerator, num_steps: int, *, seed: int = 0) -> dict[str, float]:
    torch.manual_seed(seed)
    report = generator.fit(space=SPACE, world=WORLD, budget=Budget(units=num_steps), random=seeded(seed))
    assert report.steps == num_steps
    return report.metrics


def generate(generator: DiffusionGenerator, *, seed: int = 0) -> FloatTensor:
    return generator.generate(space=SPACE, world=WORLD, queries=QUERIES, random=seeded(seed))


def condition_of(generator: DiffusionGenerator, seed: int = 7) -> Condition:
    return generator.condition(
        space=SPACE,
        world=WORLD,
        queries=QUERIES,
        answers=WORLD.index.sample_answer(QUERIES.rows, seeded(seed)),
        centroids=WORLD.types.centroids(SPACE.vectors),
    )


@torch.no_grad()
def noise_error(generator: DiffusionGenerator, *, world: World = WORLD) -> float:
    """Measure the mean squared error of the predicted noise. That of a predictor of zeros is 1."""
    generator.eval()
    random = seeded(7)
    # each query with four timesteps
    queries = world.index.select(QUERIES.rows.repeat(4))
    answers = world.index.sample_answer(queries.rows, random)
    x0 = SPACE.vectors[answers]
    condition = generator.condition(
        space=SPACE, world=world, queries=queries, answers=answers, centroids=world.types.centroids(SPACE.vectors)
    )
    timesteps = torch.randint(1, generator.num_timesteps + 1, size=(len(x0),), generator=random)
    noise = torch.randn(x0.shape, generator=random)
    abar = generator.schedule.alpha_bars(condition.difficulty).gather(1, timesteps[:, None])
    x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    predicted = generator.predict_noise(x_t, timesteps, abar, generator.encode(condition))
    return (predicted - noise).pow(2).mean().item()


@pytest.fixture(scope="module")
def trained() -> DiffusionGenerator:
    generator = make_generator()
    fit(generator, 300)
    return generator


@pytest.fixture(scope="module")
def prior_only() -> DiffusionGenerator:
    """Make a generator that has fitted its prior, while its network is as it was made."""
    generator = make_generator()
    fit(generator, 0)
    return generator


# Training


def test_training_learns_what_the_noise_is(trained: DiffusionGenerator, prior_only: DiffusionGenerator) -> None:
    zero_predictor = 1.0
    assert noise_error(prior_only) < 0.5 * zero_predictor
    # the network learns what is beyond a linear map
    assert noise_error(trained) < 0.7 * noise_error(prior_only)


def test_the_prior_alone_learns_what_is_linear() -> None:
    typed = clustered_world()
    generator = make_generator()
    before = noise_error(generator, world=typed)
    generator.fit(space=SPACE, world=typed, budget=Budget(units=0), random=seeded())
    assert noise_error(generator, world=typed) < 0.7 * before


@pytest.mark.parametrize("loss", ["l2", "l1"])
def test_reported_loss_falls(loss: str) -> None:
    generator = make_generator(loss=loss, learning_rate=5e-3)
    first = fit(generator, 20)["diffusion_loss"]
    fit(generator, 150)
    last = fit(generator, 20)["diffusion_loss"]
    # the mean absolute value of standard normal noise is the square root of 2 / pi
    zero_predictor = {"l2": 1.0, "l1": math.sqrt(2 / math.pi)}[loss]
    assert last < 0.85 * first
    assert first < zero_predictor


def test_reported_loss_is_the_error_of_the_noise(prior_only: DiffusionGenerator) -> None:
    # steps so small that they change nothing
    generator = make_generator(learning_rate=1e-12)
    assert fit(generator, 30)["diffusion_loss"] == pytest.approx(noise_error(prior_only), rel=0.1)


def test_a_network_without_condition_learns_too(trained: DiffusionGenerator) -> None:
    generator = make_generator(conditioned=False)
    before = noise_error(generator)
    fit(generator, 150)
    assert noise_error(trained) < noise_error(generator) < 0.9 * before


def test_what_was_learned_is_about_the_query(trained: DiffusionGenerator) -> None:
    condition = condition_of(trained)
    swapped = dataclasses.replace(condition, relation=condition.relation.roll(1))
    x, timestep = torch.randn(len(QUERIES), DIM, generator=seeded()), torch.tensor(40)
    abar = trained.schedule.alpha_bars(condition.difficulty)[:, 40, None]
    with torch.no_grad():
        start, changed = (trained.predict_start(x, timestep, abar, trained.encode(c))[0] for c in (condition, swapped))
        same = condition.relation == swapped.relation
        assert torch.equal(start[same], changed[same])
        assert ((start - changed)[~same].norm(dim=-1) > 1e-3).all()
        blind = make_generator(conditioned=False)
        fit(blind, 5)
        start, changed = (blind.predict_start(x, timestep, abar, blind.encode(c))[0] for c in (condition, swapped))
        assert torch.equal(start, changed)


def test_the_condition_tells_the_query_and_an_answer(trained: DiffusionGenerator) -> None:
    world = clustered_world()
    answers = world.index.sample_answer(QUERIES.rows, seeded(1))
    centroids = world.types.centroids(SPACE.vectors)
    condition = trained.condition(space=SPACE, world=world, queries=QUERIES, answers=answers, centroids=centroids)
    for i, (kept, relation, side, answer) in enumerate(
        zip(QUERIES.kept.tolist(), QUERIES.relations.tolist(), QUERIES.sides.tolist(), answers.tolist(), strict=True)
    ):
        assert condition.relation[i] == side * NUM_RELATIONS + relation
        assert torch.equal(condition.kept[i], SPACE.vectors[kept])
        assert torch.equal(condition.type[i], centroids[answer // CLUSTER_SIZE])
        assert condition.difficulty[i] == world.difficulty[answer]
    expected = SPACE.queries(QUERIES.kept, QUERIES.relations, QUERIES.sides)
    assert torch.equal(condition.query, expected)
    torch.testing.assert_close(centroids[0], SPACE.vectors[:CLUSTER_SIZE].mean(dim=0))


def test_without_condition_nothing_of_the_query_gets_through() -> None:
    generator = make_generator(conditioned=False, schedule_kwargs={"mu": 0.0})
    fit(generator, 20)
    permuted = WORLD.index.select(torch.randperm(len(QUERIES), generator=seeded()))
    result = generator.generate(space=SPACE, world=WORLD, queries=permuted, random=seeded(4))
    assert torch.equal(result, generate(generator, seed=4))


def test_the_noise_control_is_never_trained() -> None:
    generator = make_generator(trained=False)
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    report = generator.fit(space=SPACE, world=WORLD, budget=Budget(units=50), random=seeded())
    assert (report.steps, report.metrics) == (0, {})
    assert all(torch.equal(before[key], value) for key, value in generator.state_dict().items())


def test_training_ends_with_its_budget() -> None:
    generator = make_generator()
    before = {key: value.clone() for key, value in generator.denoiser.state_dict().items()}
    report = generator.fit(space=SPACE, world=WORLD, budget=Budget(units=50, seconds=0.0), random=seeded())
    assert (report.steps, report.metrics) == (0, {})
    assert all(torch.equal(before[key], value) for key, value in generator.denoiser.state_dict().items())


def test_no_gradient_reaches_the_space() -> None:
    entities, relations = (x.requires_grad_() for x in clustered_vectors())
    space = EntitySpace.create(entities=entities, relations=relations, combination=TranslationCombination())
    generator = make_generator()
    generator.fit(space=space, world=WORLD, budget=Budget(units=3), random=seeded())
    latent = generator.generate(space=space, world=WORLD, queries=QUERIES, random=seeded())
    assert entities.grad is None
    assert relations.grad is None
    assert not latent.requires_grad
    assert not space.restore(latent).requires_grad


def test_training_works_where_gradients_are_off() -> None:
    generator = make_generator()
    with torch.no_grad():
        fit(generator, 2)
    assert generator.denoiser.output.weight.abs().sum() > 0


# Generation


@pytest.mark.parametrize("sampling", ["ddim", "ddpm"])
@pytest.mark.parametrize("bands", [(25, 18, 12, 6), (50, 1), (9,)])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_vectors_have_the_shape_of_the_bands(sampling: str, bands: tuple[int, ...], schedule: str) -> None:
    generator = make_generator(sampling=sampling, bands=bands, schedule=schedule)
    fit(generator, 2)
    latent = generate(generator)
    assert latent.shape == (len(QUERIES), len(bands), DIM)
    assert torch.isfinite(latent).all()


def cosine_to_answers(latent: FloatTensor) -> FloatTensor:
    """Measure for each band how near it comes to the cluster in which the answers are."""
    answers = WORLD.index.sample_answer(QUERIES.rows, seeded())
    centres = SPACE.vectors.view(-1, CLUSTER_SIZE, DIM).mean(dim=1)[answers // CLUSTER_SIZE]
    return torch.cosine_similarity(latent, centres[:, None], dim=-1).mean(dim=0)


@pytest.mark.parametrize("sampling", ["ddim", "ddpm"])
def test_hardness_rises_with_the_band(trained: DiffusionGenerator, sampling: str) -> None:
    generator = make_generator(sampling=sampling)
    generator.load_state_dict(trained.state_dict())
    hardness = cosine_to_answers(generate(generator))
    assert (hardness.diff() > 0.05).all()
    assert hardness[-1] > 0.7


def test_training_brings_negatives_nearer_to_the_answers(
    trained: DiffusionGenerator, prior_only: DiffusionGenerator
) -> None:
    control = make_generator(trained=False)
    assert cosine_to_answers(generate(control)).abs().max() < 0.1
    assert (cosine_to_answers(generate(trained)) > cosine_to_answers(generate(prior_only)) + 0.05).all()


def test_negatives_of_one_query_differ() -> None:
    generator = make_generator()
    fit(generator, 2)
    one = WORLD.index.select(torch.zeros(50, dtype=torch.long))
    latent = generator.generate(space=SPACE, world=WORLD, queries=one, random=seeded())
    assert (latent.std(dim=0) > 0.1).all()


@pytest.mark.parametrize("sampling", ["ddim", "ddpm"])
def test_the_same_seed_gives_the_same_vectors(sampling: str) -> None:
    def run(seed: int) -> FloatTensor:
        generator = make_generator(seed, sampling=sampling)
        fit(generator, 3, seed=seed)
        return generate(generator, seed=seed)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_state_survives_a_round_trip(trained: DiffusionGenerator) -> None:
    copy = make_generator(seed=99)
    copy.load_state_dict(trained.state_dict())
    assert torch.equal(generate(copy), generate(trained))


# Hardness and schedules


@settings(max_examples=40, deadline=None)
@given(moves=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60))
def test_moved_bands_stay_in_order(moves: list[tuple[int, bool]]) -> None:
    generator = DiffusionGenerator(dim=2, num_relations=1, bands=(8, 5, 3), num_timesteps=10, hidden_dim=4)
    for band, harder in moves:
        before = list(generator.bands)
        changed = generator.adjust_hardness(band, harder)
        assert changed == (generator.bands != before)
        if changed:
            assert generator.bands[band] - before[band] == (-1 if harder else 1)
        assert 10 >= generator.bands[0] > generator.bands[1] > generator.bands[2] >= 1


def test_bands_move_until_their_neighbours_are_reached() -> None:
    generator = DiffusionGenerator(dim=2, num_relations=1, bands=(8, 5), num_timesteps=10, hidden_dim=4)
    assert [generator.adjust_hardness(0, harder=True) for _ in range(4)] == [True, True, False, False]
    assert generator.bands == [6, 5]
    assert [generator.adjust_hardness(1, harder=True) for _ in range(5)] == [True] * 4 + [False]
    assert generator.bands == [6, 1]
    assert [generator.adjust_hardness(0, harder=False) for _ in range(5)] == [True] * 4 + [False]
    assert generator.bands == [10, 1]


def test_moved_bands_are_generated() -> None:
    generator = make_generator(bands=(20, 10))
    fit(generator, 2)
    before = generate(generator)
    assert generator.adjust_hardness(1, harder=True)
    assert generate(generator).shape == before.shape
    assert not torch.equal(generate(generator)[:, 1], before[:, 1])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_without_modulation_all_entities_have_one_schedule(schedule: str, mu: float) -> None:
    generator = make_generator(schedule=schedule, schedule_kwargs={"mu": mu}, conditioned=False, trained=False)
    abars = generator.schedule.alpha_bars(torch.tensor([0.05, 0.5, 0.95]))
    assert bool((abars == abars[0]).all()) == (mu == 0)
    if mu:
        # harder entities are noisier
        assert (abars[:, 2:].diff(dim=0) < 0).all()
    # the difficulty has no other way into what is generated
    hard, easy = (
        generator.generate(
            space=SPACE,
            world=dataclasses.replace(WORLD, difficulty=torch.full((NUM_ENTITIES,), value)),
            queries=QUERIES,
            random=seeded(),
        )
        for value in (0.9, 0.1)
    )
    assert torch.equal(hard, easy) == (mu == 0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sampling": "euler"}, "sampling='euler' .*ddim, ddpm"),
        ({"loss": "l3"}, "loss='l3' .*l1, l2"),
        ({"bands": (10, 20)}, r"bands=\(10, 20\) does not strictly decrease"),
        ({"bands": (60, 20)}, r"bands=\(60, 20\) has values outside 1..50"),
        ({"num_steps": 0}, "num_steps=0 .*choose 1 or more"),
        ({"batch_size": 0}, "batch_size=0 .*choose 1 or more"),
        ({"learning_rate": 0.0}, r"learning_rate=0.0 .*larger than 0"),
        ({"schedule": "nope"}, "schedule='nope' .*cosine, linear"),
    ],
)
def test_bad_values(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_generator(**kwargs)
