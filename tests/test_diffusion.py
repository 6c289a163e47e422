"""The diffusion generator: what it learns beyond the ridge, and that its negatives are what they should be."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.typing import FloatTensor
from torch import Tensor

from pykeen_dans.generators import DiffusionGenerator
from pykeen_dans.generators.denoiser import Condition
from pykeen_dans.generators.diffusion_process import DiffusionProcess
from pykeen_dans.graph import Graph
from pykeen_dans.space import EntitySpace
from pykeen_dans.space.combination import TranslationCombination
from pykeen_dans.utils.budget import Budget

from .toys import (
    CLUSTER_SIZE,
    DIM,
    NUM_ENTITIES,
    NUM_RELATIONS,
    clustered_graph,
    clustered_space,
    clustered_vectors,
    parity_graph,
    seeded,
)

SPACE = clustered_space()
#: the answers' cluster is not told by the condition, but follows from kept entity, relation and side
GRAPH = clustered_graph(typed=False)
QUERIES = GRAPH.index.select(torch.arange(GRAPH.index.num_queries))


def make_generator(seed: int = 0, **kwargs: Any) -> DiffusionGenerator:
    torch.manual_seed(seed)
    return DiffusionGenerator(
        **{"dim": DIM, "num_relations": NUM_RELATIONS, "batch_size": 128, "hidden_dim": 64, **kwargs}
    )


def fit(
    generator: DiffusionGenerator, num_steps: int, *, space: EntitySpace = SPACE, graph: Graph = GRAPH, seed: int = 0
) -> dict[str, float]:
    torch.manual_seed(seed)
    report = generator.fit(space=space, graph=graph, budget=Budget(units=num_steps), random=seeded(seed))
    assert report.steps == num_steps
    return report.metrics


def generate(generator: DiffusionGenerator, *, graph: Graph = GRAPH, seed: int = 0) -> FloatTensor:
    return generator.generate(space=SPACE, graph=graph, queries=QUERIES, random=seeded(seed))


@torch.no_grad()
def noise_errors(
    generator: DiffusionGenerator, *, space: EntitySpace = SPACE, graph: Graph = GRAPH
) -> tuple[float, float]:
    """Measure the mean squared errors of the noise that is predicted with and without the network.

    This is done on a sample of its own, and by what generation uses, rather than by the losses of training. The error
    of a predictor of zeros is 1.
    """
    generator.eval()
    process, random = generator.process(0), seeded(7)
    queries, answers = graph.sample_positives(2000, random)
    x0 = space.vectors[answers]
    condition = process.condition(
        space=space, queries=queries, answers=answers, surroundings=generator.surroundings(space, graph)
    )
    timesteps = torch.randint(1, generator.schedule.num_timesteps + 1, size=(len(x0),), generator=random)
    noise = torch.randn(x0.shape, generator=random)
    abar = generator.schedule.alpha_bars(condition.difficulty).gather(1, timesteps[:, None])
    x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    encoded = process.encode(condition)
    predicted = process.predict_noise(x_t, timesteps, abar, encoded)
    estimate, _ = process.gaussian.estimate(x_t, encoded.mean, abar)
    by_ridge = (x_t - abar.sqrt() * estimate) / (1 - abar).sqrt()
    return (predicted - noise).pow(2).mean().item(), (by_ridge - noise).pow(2).mean().item()


@pytest.fixture(scope="module")
def trained() -> DiffusionGenerator:
    generator = make_generator(learning_rate=5e-3)
    fit(generator, 120)
    return generator


@pytest.fixture(scope="module")
def fitted() -> DiffusionGenerator:
    """Make a generator that has fitted its ridge, while its network is as it was made."""
    generator = make_generator()
    fit(generator, 0)
    return generator


# Training


def test_the_network_learns_what_no_ridge_can() -> None:
    """Where answers are a product of what is kept, the error of the network falls far below that of the ridge."""
    graph, space = parity_graph()
    options: dict[str, Any] = dict(num_relations=2, learning_rate=5e-3, condition_dropout=0.0)
    generator, blind = (make_generator(conditioned=conditioned, **options) for conditioned in (True, False))
    early = fit(generator, 5, space=space, graph=graph)
    # the network begins as no correction at all, and nothing of the condition is of use to the ridge
    assert early["noise_error"] == pytest.approx(early["ridge_error"], rel=0.1)
    fit(generator, 95, space=space, graph=graph)
    late = fit(generator, 10, space=space, graph=graph, seed=1)
    assert late["noise_error"] < 0.5 * late["ridge_error"]
    assert late["ridge_error"] == pytest.approx(early["ridge_error"], rel=0.1)
    # all the same on positives that are drawn for this, and by what generation uses
    noise, ridge = noise_errors(generator, space=space, graph=graph)
    assert noise < 0.5 * ridge
    # and better than what a network makes of the vectors' shape alone, which are in two places in each dimension
    fit(blind, 110, space=space, graph=graph)
    assert noise < 0.85 * noise_errors(blind, space=space, graph=graph)[0]


def test_training_goes_on_from_round_to_round() -> None:
    """Rounds of few steps come to what one round of many steps comes to."""
    graph, space = parity_graph()
    generator = make_generator(num_relations=2, learning_rate=5e-3)
    errors = [fit(generator, 8, space=space, graph=graph, seed=number) for number in range(10)]
    assert errors[0]["noise_error"] > 0.85 * errors[0]["ridge_error"]
    assert errors[-1]["noise_error"] < 0.7 * errors[-1]["ridge_error"]


def test_training_learns_what_the_noise_is(trained: DiffusionGenerator, fitted: DiffusionGenerator) -> None:
    noise, ridge = noise_errors(fitted)
    assert noise == pytest.approx(ridge)
    assert ridge < 0.5
    assert noise_errors(trained)[0] < 0.8 * ridge


def test_the_ridge_alone_learns_what_is_linear() -> None:
    """Where the type of the answer is told, its vector follows by a linear map."""
    typed = clustered_graph()
    generator = make_generator()
    before = noise_errors(generator, graph=typed)[0]
    fit(generator, 0, graph=typed)
    assert noise_errors(generator, graph=typed)[0] < 0.75 * before


@pytest.mark.parametrize("noise_loss", ["l2", "l1"])
def test_reported_errors_are_those_of_the_noise(noise_loss: str) -> None:
    # steps so small that they change nothing
    generator = make_generator(learning_rate=1e-12, noise_loss=noise_loss)
    metrics = fit(generator, 30)
    assert metrics["noise_error"] == pytest.approx(metrics["ridge_error"], rel=1e-3)
    if noise_loss == "l2":
        assert metrics["noise_error"] == pytest.approx(noise_errors(generator)[0], rel=0.1)


@pytest.mark.parametrize("noise_loss", ["l2", "l1"])
def test_reported_error_falls(noise_loss: str) -> None:
    generator = make_generator(noise_loss=noise_loss, learning_rate=1e-2)
    early = fit(generator, 10)["noise_error"]
    fit(generator, 40)
    assert fit(generator, 10, seed=1)["noise_error"] < 0.95 * early


def test_the_two_losses_train_different_networks() -> None:
    weights = []
    for noise_loss in ("l1", "l2"):
        generator = make_generator(noise_loss=noise_loss)
        fit(generator, 3)
        weights.append(generator.process(0).denoiser.output.weight)
    assert not torch.allclose(*weights)


def test_learning_rate_warms_up_and_gradients_are_clipped() -> None:
    generator = make_generator(learning_rate=1e-2)
    generator.max_norm = 1e-9
    rates = []
    for _ in range(22):
        rates.append(generator.optimizer.param_groups[0]["lr"])
        fit(generator, 1)
    assert rates == pytest.approx([5e-4 * step for step in range(1, 21)] + [1e-2] * 2)
    norm = torch.stack([p.grad.norm() for p in generator.parameters() if p.grad is not None]).norm()
    assert norm <= 1.01e-9


def test_no_gradient_reaches_the_space() -> None:
    entities, relations = (x.requires_grad_() for x in clustered_vectors())
    space = EntitySpace.create(entities=entities, relations=relations, combination=TranslationCombination())
    generator = make_generator()
    fit(generator, 3, space=space)
    vectors = generator.generate(space=space, graph=GRAPH, queries=QUERIES, random=seeded())
    assert entities.grad is None
    assert relations.grad is None
    assert not vectors.requires_grad
    assert not space.restore(vectors).requires_grad


# Conditions


def test_the_condition_tells_the_query_and_an_answer() -> None:
    graph, process = clustered_graph(), make_generator().process(0)
    answers = graph.index.sample_answer(QUERIES.rows, seeded(1))
    surroundings = make_generator().surroundings(SPACE, graph)
    condition = process.condition(space=SPACE, queries=QUERIES, answers=answers, surroundings=surroundings)
    assert torch.equal(condition.relation, QUERIES.relations)
    assert torch.equal(condition.side, QUERIES.sides)
    assert torch.equal(condition.kept, SPACE.vectors[QUERIES.kept])
    assert torch.equal(condition.query, SPACE.queries(QUERIES.kept, QUERIES.relations, QUERIES.sides))
    assert torch.equal(condition.difficulty, graph.difficulty()[answers])
    centroids = SPACE.vectors.view(-1, CLUSTER_SIZE, DIM).mean(dim=1)
    torch.testing.assert_close(condition.type, centroids[answers // CLUSTER_SIZE])


def condition_of(generator: DiffusionGenerator) -> Condition:
    return generator.process(0).condition(
        space=SPACE,
        queries=QUERIES,
        answers=GRAPH.index.sample_answer(QUERIES.rows, seeded(7)),
        surroundings=generator.surroundings(SPACE, GRAPH),
    )


@torch.no_grad()
def test_what_was_learned_is_about_the_query(trained: DiffusionGenerator) -> None:
    condition = condition_of(trained)
    swapped = dataclasses.replace(condition, relation=condition.relation.roll(1))
    x, timestep = torch.randn(len(QUERIES), DIM, generator=seeded()), torch.tensor(40)
    abar = trained.schedule.alpha_bars(condition.difficulty)[:, 40, None]
    blind = make_generator(conditioned=False)
    with torch.enable_grad():
        fit(blind, 5)
    for generator in (trained, blind):
        process = generator.process(0)
        start, changed = (process.predict_start(x, timestep, abar, process.encode(c))[0] for c in (condition, swapped))
        same = condition.relation == swapped.relation
        assert torch.equal(start[same], changed[same])
        assert ((start - changed)[~same].norm(dim=-1) > 1e-3).all() == (generator is trained)


def test_without_condition_nothing_of_the_query_gets_through() -> None:
    permuted = GRAPH.index.select(torch.randperm(len(QUERIES), generator=seeded()))
    for conditioned in (False, True):
        generator = make_generator(conditioned=conditioned, mu=0.0)
        fit(generator, 20)
        result = generator.generate(space=SPACE, graph=GRAPH, queries=permuted, random=seeded(4))
        assert torch.equal(result, generate(generator, seed=4)) == (not conditioned)


# Generation


@pytest.mark.parametrize("num_steps", [4, None])
@pytest.mark.parametrize("bands", [(25, 18, 12, 6), (50, 1), (9,)])
def test_vectors_have_the_shape_of_the_bands(num_steps: int | None, bands: tuple[int, ...]) -> None:
    generator = make_generator(num_steps=num_steps, bands=bands, num_bands=len(bands))
    fit(generator, 2)
    vectors = generate(generator)
    assert vectors.shape == (len(QUERIES), len(bands), 1, DIM)
    assert torch.isfinite(vectors).all()


@pytest.mark.parametrize(("num_steps", "expected"), [(None, list(range(20, 3, -1))), (1, [20, 12, 9, 6]), (6, None)])
def test_steps_of_the_chain(num_steps: int | None, expected: list[int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a number of steps, all of the chain are taken down to the last band, else only as many."""
    steps: list[int] = []
    step = DiffusionProcess._step

    def counting(self: DiffusionProcess, x: Tensor, current: int, *args: Any) -> Tensor:
        steps.append(current)
        return step(self, x, current, *args)

    monkeypatch.setattr(DiffusionProcess, "_step", counting)
    generate(make_generator(num_steps=num_steps, num_timesteps=20, bands=(12, 9, 6, 3)))
    assert steps == sorted(steps, reverse=True)
    if expected is None:
        assert len(steps) == 5 and {20, 12, 9, 6} <= set(steps)
    else:
        assert steps == expected


def cosine_to_answers(vectors: FloatTensor) -> FloatTensor:
    """Measure for each band how near it comes to the cluster in which the answers are."""
    answers = GRAPH.index.sample_answer(QUERIES.rows, seeded())
    centres = SPACE.vectors.view(-1, CLUSTER_SIZE, DIM).mean(dim=1)[answers // CLUSTER_SIZE]
    return torch.cosine_similarity(vectors[:, :, 0], centres[:, None], dim=-1).mean(dim=0)


@pytest.mark.parametrize("num_steps", [4, None])
def test_hardness_rises_with_the_band(trained: DiffusionGenerator, num_steps: int | None) -> None:
    generator = make_generator(num_steps=num_steps)
    generator.load_state_dict(trained.state_dict())
    hardness = cosine_to_answers(generate(generator))
    assert (hardness.diff() > 0.05).all()
    assert hardness[-1] > 0.7


def test_training_brings_negatives_nearer_to_the_answers(
    trained: DiffusionGenerator, fitted: DiffusionGenerator
) -> None:
    assert cosine_to_answers(generate(make_generator(trained=False))).abs().max() < 0.1
    assert (cosine_to_answers(generate(trained)) > cosine_to_answers(generate(fitted)) + 0.05).all()
    # where the type of the answer is told, the ridge comes near to it by itself
    typed = clustered_graph()
    generator = make_generator()
    fit(generator, 0, graph=typed)
    assert cosine_to_answers(generate(generator, graph=typed)).min() > 0.15


def test_negatives_of_one_query_differ(fitted: DiffusionGenerator) -> None:
    one = GRAPH.index.select(torch.zeros(50, dtype=torch.long))
    vectors = fitted.generate(space=SPACE, graph=GRAPH, queries=one, random=seeded())
    assert (vectors.std(dim=0) > 0.1).all()


@pytest.mark.parametrize("num_steps", [4, None])
def test_the_same_seed_gives_the_same_vectors(num_steps: int | None) -> None:
    def run(seed: int) -> FloatTensor:
        generator = make_generator(seed, num_steps=num_steps)
        fit(generator, 3, seed=seed)
        return generate(generator, seed=seed)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_state_survives_a_round_trip(trained: DiffusionGenerator) -> None:
    copy = make_generator(seed=99)
    copy.load_state_dict(trained.state_dict())
    assert torch.equal(generate(copy), generate(trained))


# Hardness, difficulty and bad values


@settings(max_examples=20, deadline=None)
@given(moves=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60))
def test_moved_bands_stay_in_order(moves: list[tuple[int, bool]]) -> None:
    generator = make_generator(dim=2, num_bands=3, bands=(8, 5, 3), num_timesteps=10, hidden_dim=4)
    process = generator.process(0)
    for band, harder in moves:
        before = list(process.bands)
        changed = generator.adjust_hardness(band, 0, harder=harder)
        assert changed == (process.bands != before)
        if changed:
            assert process.bands[band] - before[band] == (-1 if harder else 1)
        assert 10 >= process.bands[0] > process.bands[1] > process.bands[2] >= 1


def test_moved_bands_are_generated(fitted: DiffusionGenerator) -> None:
    generator = make_generator(bands=(20, 10), num_bands=2)
    generator.load_state_dict(fitted.state_dict())
    before = generate(generator)
    assert generator.adjust_hardness(1, 0, harder=True)
    assert generate(generator).shape == before.shape
    assert not torch.equal(generate(generator)[:, 1], before[:, 1])


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_without_modulation_all_entities_have_one_schedule(mu: float) -> None:
    """Difficulty has no way into what is generated but by the schedule, where the condition is left out."""
    generator = make_generator(mu=mu, conditioned=False, trained=False)
    hard, easy = (
        generate(generator, graph=clustered_graph(typed=False, difficulty=torch.full((NUM_ENTITIES,), value)))
        for value in (0.9, 0.1)
    )
    assert torch.equal(hard, easy) == (mu == 0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"noise_loss": "l3"}, "noise_loss='l3' .*l1, l2"),
        ({"bands": (10, 20)}, r"bands=\(10, 20\) does not strictly decrease"),
        ({"bands": (60, 20)}, r"bands=\(60, 20\) has values outside 1..50"),
        ({"bands": (20, 10)}, r"bands=\(20, 10\) are not 4, the number of targets"),
        ({"num_timesteps": 2}, r"bands=\(1,\) are not 4, .*raise num_timesteps=2"),
        ({"num_steps": 0}, "num_steps=0 .*choose 1 or more"),
        ({"batch_size": 0}, "batch_size=0 .*choose 1 or more"),
        ({"learning_rate": 0.0}, r"learning_rate=0.0 .*larger than 0"),
        ({"condition_dropout": 1.5}, r"condition_dropout=1.5 .*\[0, 1\]"),
        ({"num_blocks": 0}, "num_blocks=0"),
        ({"num_types": 0}, "num_types=0"),
        ({"mu": -1.0}, r"mu=-1.0 is negative"),
        ({"difficulty": "nope"}, "difficulty='nope' is unknown; choose one of constant, degree, learned"),
        ({"difficulty": "degree", "difficulty_kwargs": {"x": 1}}, "difficulty_kwargs has x"),
    ],
)
def test_bad_values(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_generator(**kwargs)
