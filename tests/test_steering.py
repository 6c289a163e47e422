"""The closed loop: what counts as hard, and how bands are moved there."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.datasets import Nations
from pykeen.models import Model, model_resolver
from pykeen.triples import TriplesFactory
from pykeen.typing import LongTensor

from pykeen_dans.engine.steering import HardnessSteering, rank_percentiles, score_candidates
from pykeen_dans.generators import DiffusionGenerator, Generator, PriorGenerator
from pykeen_dans.graph import TAIL, QueryBatch, QueryIndex

from .toys import known_answers, seeded

MODELS = ["TransE", "DistMult", "ComplEx", "RotatE", "RGCN"]


@functools.cache
def nations() -> TriplesFactory:
    return Nations().training


@functools.cache
def nations_index() -> QueryIndex:
    factory = nations()
    return QueryIndex(
        mapped_triples=factory.mapped_triples, num_entities=factory.num_entities, num_relations=factory.num_relations
    )


def make_model(name: str) -> Model:
    return model_resolver.make(name, triples_factory=nations(), embedding_dim=8, random_seed=0)


def some_queries(n: int) -> QueryBatch:
    return nations_index().select(torch.randperm(nations_index().num_queries, generator=seeded())[:n])


def as_triples(queries: QueryBatch, candidates: LongTensor) -> LongTensor:
    """Put each candidate into its query, shape: (n, k, 3)."""
    kept, relations = (x[:, None].expand(candidates.shape) for x in (queries.kept, queries.relations))
    is_tail = (queries.sides == TAIL)[:, None]
    return torch.stack(
        [torch.where(is_tail, kept, candidates), relations, torch.where(is_tail, candidates, kept)], dim=-1
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_candidates_are_scored_as_by_the_model(name: str, training: bool) -> None:
    model, queries = make_model(name).train(training), some_queries(12)
    assert len(queries.sides.unique()) == 2
    candidates = torch.randint(nations().num_entities, size=(12, 5), generator=seeded(1))
    scores = score_candidates(model, queries, candidates)
    assert model.training is training
    assert not scores.requires_grad
    model.eval()
    expected = model.score_hrt(as_triples(queries, candidates).view(-1, 3)).view(12, 5)
    torch.testing.assert_close(scores, expected.detach(), atol=1e-5, rtol=1e-4)


def test_queries_of_one_side_only() -> None:
    model, queries = make_model("DistMult"), some_queries(12)
    heads = nations_index().select(queries.rows[queries.sides != TAIL])
    candidates = torch.zeros(len(heads), 1, dtype=torch.long)
    expected = model.score_hrt(as_triples(heads, candidates).view(-1, 3)).detach()
    torch.testing.assert_close(score_candidates(model, heads, candidates), expected)


def test_an_encoder_keeps_learning_after_it_was_asked() -> None:
    model = make_model("RGCN").train()
    score_candidates(model, some_queries(3), torch.zeros(3, 1, dtype=torch.long))
    model.score_hrt(nations().mapped_triples[:4]).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["DistMult", "RotatE"])
def test_percentile_is_the_share_of_entities_that_score_higher(name: str) -> None:
    model, queries, num_entities = make_model(name).eval(), some_queries(10), nations().num_entities
    candidates = torch.arange(-1, num_entities).expand(10, -1)
    percentiles = rank_percentiles(
        model=model, index=nations_index(), queries=queries, candidates=candidates, pool_size=1000, random=seeded()
    )
    every = torch.arange(num_entities).expand(10, -1)
    scores = score_candidates(model, queries, every).tolist()
    for i, (kept, relation, side) in enumerate(
        zip(queries.kept.tolist(), queries.relations.tolist(), queries.sides.tolist(), strict=True)
    ):
        known = known_answers(nations().mapped_triples, kept=kept, relation=relation, tail=side == TAIL)
        others = [scores[i][e] for e in range(num_entities) if e not in known]
        expected = [
            (sum(o > own for o in others) + 0.5 * sum(o == own for o in others)) / len(others) for own in scores[i]
        ]
        assert math.isnan(percentiles[i, 0])
        assert percentiles[i, 1:].tolist() == pytest.approx(expected)
    # the best entity that is no answer is only tied with itself
    assert percentiles[:, 1:].max() <= 1


def test_entities_that_tie_are_in_the_middle() -> None:
    model = make_model("DistMult")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    percentiles = rank_percentiles(
        model=model,
        index=nations_index(),
        queries=some_queries(6),
        candidates=torch.zeros(6, 2, dtype=torch.long),
        random=seeded(),
    )
    assert (percentiles == 0.5).all()


def test_what_is_no_number_is_higher_than_nothing() -> None:
    """A model that has diverged says nothing of hardness, and breaks nothing."""
    model, num_entities = make_model("DistMult"), nations().num_entities
    with torch.no_grad():
        model.entity_representations[0]._embeddings.weight[3] = math.nan
    percentiles = rank_percentiles(
        model=model,
        index=nations_index(),
        queries=(queries := some_queries(6)),
        candidates=torch.arange(num_entities).expand(6, -1),
        random=seeded(),
    )
    assert (percentiles[:, 3] == 0).all()
    assert ((percentiles >= 0) & (percentiles < 1))[queries.kept != 3].all()


def test_a_pool_stands_for_all_entities() -> None:
    num_entities = 2000
    factory = nations()
    index = QueryIndex(mapped_triples=factory.mapped_triples, num_entities=num_entities, num_relations=55)

    class ById(torch.nn.Module):
        """Score entities by their ids: the lower, the better."""

        device = torch.device("cpu")

        def score_t(self, batch: LongTensor, tails: LongTensor) -> torch.Tensor:
            return -tails.float()

        def score_h(self, batch: LongTensor, heads: LongTensor) -> torch.Tensor:
            return -heads.float()

    candidates = torch.tensor([100, 1000, 1900]).expand(50, 3)
    arguments: dict[str, Any] = {
        "model": ById(),
        "index": index,
        "queries": index.select(torch.arange(50)),
        "candidates": candidates,
    }
    means = torch.stack(
        [rank_percentiles(**arguments, pool_size=200, random=seeded(seed)).mean(dim=0) for seed in range(20)]
    )
    assert means.mean(dim=0).tolist() == pytest.approx([0.05, 0.5, 0.95], abs=0.02)
    assert (means.std(dim=0) > 0).all()


# The loop


class Plant(Generator):
    """A generator whose negatives have percentiles as its spreads say, up to a factor that it can change by steps.

    :param factors: for each band and source the factor
    :param step: by how much it is changed at once
    """

    def __init__(self, factors: Sequence[Sequence[float]], *, step: float = 1.2) -> None:
        super().__init__(dim=1, num_relations=1, num_bands=len(factors))
        self.factors = [list(of_band) for of_band in factors]
        self.step = step
        self.adjusted: list[tuple[int, int, bool]] = []

    def generate(self, **kwargs: Any) -> torch.Tensor:
        raise NotImplementedError

    def percentiles(self, spreads: Sequence[Sequence[float]]) -> list[list[float]]:
        return [
            [factor * spread / 2 for factor, spread in zip(*pair, strict=True)]
            for pair in zip(self.factors, spreads, strict=True)
        ]

    def adjust_hardness(self, band: int, source: int, *, harder: bool) -> bool:
        self.adjusted.append((band, source, harder))
        self.factors[band][source] *= 1 / self.step if harder else self.step
        return True


TARGETS = (0.3, 0.1, 0.05, 0.02)


def plant_of(*factors: float) -> Plant:
    return Plant([[factor] for factor in factors])


def run(steering: HardnessSteering, plant: Plant, rounds: int) -> list[float]:
    """Close the loop for some rounds, and tell the percentiles of the first source."""
    for _ in range(rounds):
        steering.update(plant.percentiles(steering.spreads), plant)
    return [of_band[0] for of_band in plant.percentiles(steering.spreads)]


def first(values: Sequence[Sequence[float]]) -> list[float]:
    return [of_band[0] for of_band in values]


def keep_distance(spreads: Sequence[float]) -> bool:
    return all(easier >= 1.0999 * harder for easier, harder in itertools.pairwise(spreads))


def test_the_first_spreads_are_right_if_nearness_is_plausibility() -> None:
    steering, plant = HardnessSteering(TARGETS, min_spread=0.01), plant_of(1, 1, 1, 1)
    assert first(plant.percentiles(steering.spreads)) == pytest.approx(TARGETS)
    before = [list(of_band) for of_band in steering.spreads]
    run(steering, plant, 5)
    assert steering.spreads == before
    assert plant.adjusted == []
    assert steering.unheld() == []


@pytest.mark.parametrize("start", [0.02, 0.5, 1.0])
def test_spreads_converge_from_wherever_they_start(start: float) -> None:
    steering, plant = HardnessSteering(TARGETS, min_spread=0.01), plant_of(1, 1, 1, 1)
    steering.spreads = [[start] for _ in TARGETS]
    assert run(steering, plant, 20) == pytest.approx(TARGETS, rel=0.11)
    assert keep_distance(first(steering.spreads))


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25, 1.6])
def test_spreads_make_up_for_nearness_that_is_not_plausibility(factor: float) -> None:
    steering, plant = HardnessSteering(TARGETS, min_spread=0.001), plant_of(*[factor] * 4)
    distances = []
    for _ in range(10):
        measured = run(steering, plant, 1)
        distances.append(max(abs(math.log(m / t)) for m, t in zip(measured, TARGETS, strict=True)))
    assert distances == sorted(distances, reverse=True)
    assert measured == pytest.approx(TARGETS, rel=0.11)


def test_where_the_spread_is_at_its_limit_the_generator_is_moved() -> None:
    steering, plant = HardnessSteering((0.3, 0.02), min_spread=0.1), plant_of(0.4, 1.0)
    measured = run(steering, plant, 30)
    # the first band is too hard even at a spread of 1, the second too easy at the smallest
    assert {(band, harder) for band, _, harder in plant.adjusted} == {(0, False), (1, True)}
    assert first(steering.spreads) == [1.0, 0.1]
    assert measured == pytest.approx((0.3, 0.02), rel=0.21)


def test_the_hardest_band_moves_first_so_that_easier_ones_find_room() -> None:
    """Bands that are all too easy become harder together, though each is in the way of the one before."""
    steering = HardnessSteering((0.22, 0.2))
    steering.update([[0.88], [0.8]], plant_of(1, 1))
    assert steering.spreads == [[pytest.approx(0.22)], [pytest.approx(0.2)]]


def test_where_a_neighbour_is_in_the_way_the_generator_is_moved() -> None:
    """Bands do not come nearer to each other than by a tenth, however far from the target they are."""
    steering, plant = HardnessSteering((0.2, 0.19), min_spread=0.01), plant_of(2.0, 1.0)
    measured = run(steering, plant, 30)
    assert keep_distance(first(steering.spreads))
    assert (0, 0, True) in plant.adjusted
    assert measured == pytest.approx((0.2, 0.19), rel=0.21)


def test_a_generator_that_can_do_no_more_does_not_bring_bands_together() -> None:
    """On a plant that is easy whatever is done, all bands are as hard as can be, but one below the other."""
    steering, plant = HardnessSteering(TARGETS, min_spread=0.05), Plant([[40.0]] * 4, step=1.0)
    run(steering, plant, 30)
    assert first(steering.spreads) == pytest.approx([0.05 * 1.1**k for k in (3, 2, 1, 0)])
    assert len(steering.unheld()) == 4


def test_sources_are_steered_each_by_itself() -> None:
    steering = HardnessSteering((0.2, 0.1), num_sources=2, min_spread=0.01)
    plant = Plant([[1.0, 0.5], [1.0, 0.5]])
    run(steering, plant, 10)
    assert [of_band[0] for of_band in steering.spreads] == pytest.approx([0.4, 0.2])
    assert [of_band[1] for of_band in steering.spreads] == pytest.approx([0.8, 0.4], rel=0.11)
    assert first(plant.percentiles(steering.spreads)) == pytest.approx((0.2, 0.1))


def test_a_calm_loop_moves_less() -> None:
    moved = {}
    for gain in (0.25, 0.5, 1.0):
        steering = HardnessSteering((0.1,), min_spread=0.01, gain=gain)
        steering.update([[0.2]], plant_of(1))
        moved[gain] = steering.spreads[0][0]
    assert 0.2 > moved[0.25] > moved[0.5] > moved[1.0]
    assert moved[1.0] == pytest.approx(0.1)


def test_what_is_near_enough_or_was_not_measured_stays() -> None:
    steering, plant = HardnessSteering(TARGETS, min_spread=0.01), plant_of(1, 1, 1, 1)
    before = [list(of_band) for of_band in steering.spreads]
    measured = [[0.3 * 1.09], [0.1 / 1.09], [math.nan], [math.nan]]
    steering.update(measured, plant)
    assert steering.spreads == before
    assert steering.percentiles[:2] == measured[:2]
    assert plant.adjusted == []


def test_bands_off_their_targets_are_told() -> None:
    steering, plant = HardnessSteering(TARGETS, num_sources=2, min_spread=0.01), Plant([[1.0, 1.0]] * 4)
    # before anything was measured, nothing is known to be off
    assert steering.unheld() == []
    steering.update([[0.3, 0.41], [0.06, 0.1], [0.05, math.nan], [0.02, 0.021]], plant)
    assert steering.unheld() == [(0, 1), (1, 0)]
    assert steering.unheld(tolerance=0.5) == []


@pytest.mark.parametrize("ageing", [1.0, 1.5, 2.5])
@pytest.mark.parametrize("turnover", [1, 4, 10])
def test_what_is_in_the_bank_comes_to_the_targets_though_it_is_old(ageing: float, turnover: int) -> None:
    """A bank of the last updates, whose candidates have become easier since, is held calmly."""
    steering, plant = HardnessSteering(TARGETS, min_spread=0.001), plant_of(1, 1, 1, 1)
    made = [plant.percentiles(steering.spreads)] * turnover
    steering.renew(turnover, total=turnover)
    drawn = []
    for _ in range(60):
        banked = [[ageing * sum(of_band) / turnover] for of_band in zip(*map(first, made[-turnover:]), strict=True)]
        steering.update(plant.percentiles(steering.spreads), plant, banked=banked)
        made.append(plant.percentiles(steering.spreads))
        steering.renew(1, total=turnover)
        drawn.append(first(banked))
    for measured in drawn[-20:]:
        assert measured == pytest.approx(TARGETS, rel=0.15)
    assert steering.percentiles == banked
    assert first(made[-1]) == pytest.approx([target / ageing for target in TARGETS], rel=0.15)
    # and does not become harder than is wanted on the way there
    assert all(value > 0.8 * target for each in drawn for value, target in zip(each, TARGETS, strict=True))


def test_a_bank_that_was_not_measured_has_no_age() -> None:
    steering, plant = HardnessSteering(TARGETS, min_spread=0.01), plant_of(1, 1, 1, 1)
    measured = plant.percentiles(steering.spreads)
    steering.update(measured, plant, banked=[[math.nan]] * 4)
    assert steering.ageing == [[1.0]] * 4
    assert steering.percentiles == measured


def test_bands_may_be_widened() -> None:
    steering = HardnessSteering((0.4, 0.1), num_sources=2)
    steering.widen(0.3)
    assert steering.spreads == [[0.8, 0.8], [0.3, 0.3]]


@settings(max_examples=30, deadline=None)
@given(
    rounds=st.lists(
        st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), min_size=4, max_size=4), min_size=1, max_size=30
    ),
    min_spread=st.floats(1e-3, 0.6),
)
def test_bands_stay_in_their_ranges_and_in_order_whatever_is_measured(
    rounds: list[list[float]], min_spread: float
) -> None:
    steering = HardnessSteering(TARGETS, min_spread=min_spread)
    diffusion = DiffusionGenerator(dim=2, num_relations=1, num_timesteps=50, hidden_dim=4, difficulty="constant")
    prior = PriorGenerator(dim=2, num_relations=1, num_bands=4, pathways="entity")
    before = keep_distance(first(steering.spreads))
    for number, measured in enumerate(rounds):
        values = [[value] for value in measured]
        steering.update(values, diffusion if number % 2 else prior, banked=values[::-1] if number % 3 else None)
        assert all(0.25 <= factor <= 4 for (factor,) in steering.ageing)
        spreads = first(steering.spreads)
        assert all(min_spread <= spread <= 1 for spread in spreads)
        # bands that keep their distance never lose it
        assert keep_distance(spreads) >= before
        before = keep_distance(spreads)
        timesteps = diffusion.process(0).bands
        assert all(a > b for a, b in itertools.pairwise([51, *timesteps, 0]))
        distances = [of_band[0] for of_band in prior.distances]
        assert all(a >= 1.0999 * b for a, b in itertools.pairwise(distances))
        assert distances[0] <= 1.0 and distances[-1] >= 0.5
