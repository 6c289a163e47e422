"""The engine: what is refreshed when, and that nothing wrong gets into the bank."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from pykeen.models import ComplEx
from pykeen.triples import CoreTriplesFactory

from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.engine.settings import UpdateBudget
from pykeen_dans.graph import TAIL, Graph
from pykeen_dans.space import live_space
from pykeen_dans.utils.budget import Budget

from .toys import (
    CLUSTER_SIZE,
    NUM_CLUSTERS,
    NUM_ENTITIES,
    NUM_RELATIONS,
    REFERENCE,
    SHORT_OF_MEMORY,
    clustered_triples,
    known_answers,
    make_engine,
    make_space,
    seeded,
)

TRIPLES = clustered_triples()


def make_ready(generator: str = "diffusion", **changes: Any) -> GenerationEngine:
    engine = make_engine(generator, **changes)
    engine.enter(engine.reference_space())
    engine.fit(Budget(units=2))
    return engine


# Budgets


def test_a_budget_of_units_is_spent_once() -> None:
    budget = Budget(units=10)
    assert budget.allow(4) == 4
    budget.spend(7)
    assert budget.allow(4) == 3
    budget.spend(5)
    assert budget.allow(4) == 0


def test_a_budget_of_time_ends() -> None:
    assert Budget(seconds=0.0).allow(5) == 0
    assert Budget(seconds=0.0, units=5).allow(5) == 0
    assert Budget(seconds=1e3).allow(5) == 5
    assert Budget().allow(5) == 5


def test_a_least_number_of_units_is_allowed_however_little_time_there_is() -> None:
    for units, expected in ((None, 4), (100, 4), (2, 2)):
        budget, done = Budget(seconds=0.0, units=units, least=4), 0
        while budget.allow(1):
            budget.spend(1)
            done += 1
        assert done == expected


# Refreshing


def record_queries(engine: GenerationEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note which queries are generated for."""
    seen: list[int] = []
    propose = engine.propose

    def wrapped(rows: torch.Tensor) -> torch.Tensor:
        seen.extend(rows.tolist())
        return propose(rows)

    monkeypatch.setattr(engine, "propose", wrapped)
    return seen


@pytest.mark.parametrize("memory", [16.0, SHORT_OF_MEMORY])
def test_each_row_is_refreshed_once_before_any_comes_again(monkeypatch: pytest.MonkeyPatch, memory: float) -> None:
    engine = make_ready(memory=memory)
    assert engine.bank.shared == (memory < 16)
    seen = record_queries(engine, monkeypatch)
    num_rows = engine.bank.num_rows
    for turn in range(1, 4):
        while len(seen) < turn * num_rows:
            size = min(num_rows // 3, turn * num_rows - len(seen))
            assert engine.refresh(Budget(units=size)).queries == size
        rows = engine.bank.rows(torch.tensor(seen))
        assert torch.bincount(rows, minlength=num_rows).tolist() == [turn] * num_rows
    # not in the same order each time, and in shared rows, not always the same query
    assert seen[:num_rows] != seen[num_rows : 2 * num_rows]
    if engine.bank.shared:
        assert len(set(seen)) > num_rows


def test_a_refresh_goes_over_the_end_of_a_turn() -> None:
    engine = make_ready()
    num_rows = engine.bank.num_rows
    engine.refresh(Budget(units=num_rows - 5))
    assert (engine.bank.ids[:, 0, 0, 0] < 0).sum() == 5
    assert engine.refresh(Budget(units=20)).queries == 20
    assert engine.bank.filled == 1.0


def test_a_refresh_writes_what_its_budget_allows() -> None:
    engine = make_ready()
    report = engine.refresh(Budget(units=10))
    written = (engine.bank.ids >= 0).flatten(start_dim=1).any(dim=-1)
    assert report.queries == written.sum() == 10
    assert engine.bank.filled == pytest.approx(10 / engine.bank.num_rows)
    before = engine.bank.ids.clone()
    engine.refresh(Budget(units=7))
    changed = (engine.bank.ids != before).flatten(start_dim=1).any(dim=-1)
    assert changed.sum() == 7
    assert not (changed & written).any()


def test_a_refresh_takes_all_rows_once_at_most() -> None:
    engine = make_ready()
    assert engine.refresh(Budget()).queries == engine.bank.num_rows
    assert engine.bank.filled == 1.0


@pytest.mark.parametrize("budget", [{"seconds": 0.0}, {"units": 0}, {"seconds": 0.0, "units": 100}], ids=str)
def test_without_budget_nothing_happens(budget: dict[str, Any]) -> None:
    engine = make_ready()
    state = engine.random.get_state()
    report = engine.refresh(Budget(**budget))
    assert (report.queries, report.empty) == (0, 0.0)
    assert (engine.bank.ids == -1).all()
    assert torch.equal(engine.random.get_state(), state)


def test_empty_slots_are_counted() -> None:
    # the only query for tails knows all entities, those for heads know one of two
    graph = Graph(
        mapped_triples=torch.tensor([[0, 0, 0], [0, 0, 1]]), num_entities=2, num_relations=1, reference_kwargs=REFERENCE
    )
    engine = make_engine(graph=graph, known_answers="mask")
    engine.enter(engine.reference_space())
    report = engine.refresh(Budget())
    assert report.queries == 3
    assert report.empty == pytest.approx(1 / 3)
    (everything_known,) = engine.index.find(torch.tensor([0]), torch.tensor([0]), TAIL).tolist()
    for row, ids in enumerate(engine.bank.ids):
        assert ids.unique().tolist() == [-1 if row == everything_known else 1]


@pytest.mark.parametrize("known", ["mask", "compete"])
def test_known_answers_are_masked_or_compete(known: str) -> None:
    """Where they are masked, none is proposed; else they come as often as they are near, which here is often."""
    engine = make_ready(num_slots=16, known_answers=known)
    rows = torch.arange(engine.index.num_queries)
    ids = engine.propose(rows)
    assert ids.shape == (len(rows), 4, 1, 16)
    assert ids.min() >= 0
    assert ids.max() < NUM_ENTITIES
    queries = engine.index.select(rows)
    answers = [
        known_answers(TRIPLES, kept=kept, relation=relation, tail=side == TAIL)
        for kept, relation, side in zip(
            queries.kept.tolist(), queries.relations.tolist(), queries.sides.tolist(), strict=True
        )
    ]
    found = [bool(of_query & set(of_row)) for of_query, of_row in zip(answers, ids.flatten(1).tolist(), strict=True)]
    if known == "mask":
        assert not any(found)
    else:
        assert sum(found) > 0.5 * len(found)


def test_the_bank_keeps_what_was_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_ready()
    monkeypatch.setattr(engine, "propose", lambda rows: rows[:, None, None, None].expand(-1, 4, 1, 4))
    engine.refresh(Budget())
    assert torch.equal(engine.bank.ids[:, 0, 0, 0], torch.arange(engine.bank.num_rows, dtype=torch.int32))


def test_queries_of_many_positives_come_early() -> None:
    engine = make_ready()
    uses = engine.index.num_answers(torch.arange(engine.index.num_queries)).double()
    early, late = [], []
    for _ in range(20):
        order = engine.turns.next(engine.index.num_queries, engine.random)
        assert order.sort().values.tolist() == list(range(engine.index.num_queries))
        half = len(order) // 2
        early.append(uses[order[:half]].mean())
        late.append(uses[order[half:]].mean())
    assert sum(early) / 20 > 1.2 * sum(late) / 20


def test_only_the_sides_that_are_corrupted_are_generated_for() -> None:
    engine = make_ready(sides=(TAIL,))
    assert engine.index.num_queries < make_engine().index.num_queries
    report = engine.refresh(Budget(units=engine.bank.num_rows))
    assert report.queries == engine.index.num_queries
    assert (engine.index.select(torch.arange(engine.index.num_queries)).sides == TAIL).all()


# Seeds


@pytest.mark.parametrize("generator", ["diffusion", "two-way-gan"])
@pytest.mark.parametrize("memory", [16.0, SHORT_OF_MEMORY])
def test_the_same_seed_gives_the_same_bank(memory: float, generator: str) -> None:
    model = cyclic_model()

    def run(seed: int, global_seed: int) -> torch.Tensor:
        torch.manual_seed(global_seed)
        engine = make_engine(generator, seed=seed, memory=memory)
        for _ in range(2):
            engine.update(live_space(model), model, UpdateBudget(fit_steps=2, refresh_queries=30))
        return engine.bank.ids

    # whatever the state of torch's global generator
    assert torch.equal(run(1, global_seed=5), run(1, global_seed=6))
    assert not torch.equal(run(1, global_seed=5), run(2, global_seed=5))


def test_the_global_generator_is_left_alone() -> None:
    model = cyclic_model()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    engine = make_engine()
    engine.update(live_space(model), model, UpdateBudget(fit_steps=2, refresh_queries=10))
    assert torch.equal(torch.get_rng_state(), state)


# Spaces


def test_without_a_space_there_is_nothing_to_do() -> None:
    engine = make_engine()
    rows = torch.tensor([0])
    for act in (
        lambda: engine.fit(Budget(units=1)),
        lambda: engine.generate(rows),
        lambda: engine.propose(rows),
        lambda: engine.refresh(Budget(units=1)),
    ):
        with pytest.raises(ValueError, match=r"space is not set: call enter\(space\)"):
            act()


def test_the_generator_is_kept_while_dimension_and_device_are() -> None:
    engine = make_engine()
    vectors = torch.randn(NUM_ENTITIES, 8, generator=seeded())
    first = engine.enter(make_space(vectors))
    assert engine.enter(make_space(vectors + 1)) is first
    second = engine.enter(make_space(vectors[:, :4]))
    assert second is not first
    # another device, even one without memory
    third = engine.enter(make_space(vectors[:, :4]).to("meta"))
    assert third is not second
    assert {parameter.device.type for parameter in third.parameters()} == {"meta"}


def test_negatives_are_generated_on_the_device_that_is_asked_for() -> None:
    # a device without data, which is there on any machine
    engine = make_engine(device="meta")
    generator = engine.enter(engine.reference_space())
    assert engine.space is not None and engine.space.device.type == "meta"
    assert {parameter.device.type for parameter in generator.parameters()} == {"meta"}


@pytest.mark.parametrize("complex_valued", [True, False])
def test_vectors_are_given_in_the_space_of_the_model(complex_valued: bool) -> None:
    engine = make_engine()
    dtype = torch.complex64 if complex_valued else torch.float32
    entities = 5 + 0.1 * torch.randn(NUM_ENTITIES, 6, generator=seeded(), dtype=dtype)
    engine.enter(make_space(entities))
    vectors = engine.generate(torch.arange(20))
    assert vectors.shape == (20, 4, 1, 6)
    assert vectors.dtype == dtype
    # as large as those of entities, rather than standardised
    assert (vectors.real.mean() - 5).abs() < 0.5


# Hardness


def cyclic_model(*, dim: int = 16) -> ComplEx:
    """Make a model whose relations turn the vectors of one cluster into those of another."""
    model = ComplEx(
        triples_factory=CoreTriplesFactory(TRIPLES, num_entities=NUM_ENTITIES, num_relations=NUM_RELATIONS),
        embedding_dim=dim,
        random_seed=0,
    )
    angle = 2 * math.pi / NUM_CLUSTERS * torch.arange(1, dim + 1)
    random = seeded()
    entities = torch.polar(torch.ones(()), (torch.arange(NUM_ENTITIES) // CLUSTER_SIZE)[:, None] * angle)
    entities = entities + 0.5 * torch.randn(entities.shape, generator=random, dtype=torch.complex64)
    relations = torch.polar(torch.ones(()), torch.arange(1, NUM_RELATIONS + 1)[:, None] * angle)
    with torch.no_grad():
        for representation, values in (
            (model.entity_representations[0], entities),
            (model.relation_representations[0], relations),
        ):
            (weight,) = representation.parameters()
            weight.copy_(torch.view_as_real(values).view(weight.shape))
    return model


def medians(engine: GenerationEngine, model: ComplEx, size: int = 400) -> list[float]:
    """Measure the hardness of each band on a sample of its own, decoded with many pools."""
    queries, _ = engine.graph.sample_positives(size, seeded(11))
    ids = torch.cat([engine.propose(rows) for rows in queries.rows.split(20)])
    return [of_band[0] for of_band in engine.percentiles(model, queries.rows, ids)[0]]


def test_negatives_are_harder_for_the_model_in_later_bands() -> None:
    model = cyclic_model()
    engine = make_engine(num_slots=8)
    engine.enter(live_space(model))
    engine.fit(Budget(units=100))
    # bands of one spread, so that only the generator can tell them apart
    engine.steering.spreads = [[0.1]] * 4
    measured = medians(engine, model)
    # the two hardest are as near to the answers as this small graph allows
    assert all(harder < easier + 0.01 for easier, harder in itertools.pairwise(measured))
    assert measured[0] - measured[-1] > 0.02
    # uniform negatives have a percentile of one half
    assert measured[0] < 0.3


@pytest.mark.parametrize(("generator", "kwargs"), [("diffusion", {}), ("prior", dict(pathways="relation"))])
def test_steering_leads_to_the_targets(generator: str, kwargs: dict[str, Any]) -> None:
    model, targets = cyclic_model(), (0.4, 0.3, 0.2, 0.1)
    engine = make_engine(generator, targets=targets, num_slots=8, generator_kwargs=kwargs)
    engine.enter(live_space(model))
    engine.fit(Budget(units=60))
    for _ in range(15):
        engine.steer(model)
    assert medians(engine, model) == pytest.approx(targets, rel=1 / 3)
    assert engine.steering.unheld(tolerance=0.5) == []
    assert model.training


@pytest.mark.parametrize("kwargs", [dict(num_timesteps=1000), dict(num_timesteps=400, bands=(400, 300, 200, 100))])
def test_many_timesteps_are_no_divergence(kwargs: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """At late timesteps hardly any signal is left, and dividing by it must not look like a network that has failed."""
    engine = make_engine("diffusion", generator_kwargs=kwargs)
    engine.enter(live_space(cyclic_model()))
    engine.fit(Budget(units=20))
    engine.check()
    assert engine.trust > 0
    assert "diverged" not in caplog.text


def test_small_graphs_have_spreads_of_some_candidates_at_least() -> None:
    for min_candidates, expected in ((1, 0.02), (4, 4 / NUM_ENTITIES), (18, 18 / NUM_ENTITIES), (1000, 1.0)):
        engine = make_engine("ridge", min_candidates=min_candidates, targets=(0.01,))
        assert engine.steering.spreads == [[pytest.approx(expected)]]


def test_a_band_without_candidates_is_not_steered(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_ready()
    monkeypatch.setattr(engine, "propose", lambda rows: torch.full((len(rows), 4, 1, 4), -1))
    before = [list(of_band) for of_band in engine.steering.spreads]
    engine.steer(cyclic_model())
    assert all(math.isnan(value) for of_band in engine.steering.percentiles for value in of_band)
    assert engine.steering.spreads == before


def test_what_is_not_to_move_is_measured_in_the_bank_or_else_as_it_is_made() -> None:
    model = cyclic_model()
    engine = make_engine(num_slots=8)
    engine.enter(live_space(model))
    before = [list(of_band) for of_band in engine.steering.spreads]
    # the bank is empty
    engine.steer(model, move=False)
    made = [value for of_band in engine.steering.percentiles for value in of_band]
    assert len(set(made)) == len(made) == 4 and not any(map(math.isnan, made))
    # whatever the band, it is the same entity
    engine.bank.ids.fill_(3)
    engine.steer(model, move=False)
    banked = {value for of_band in engine.steering.percentiles for value in of_band}
    assert len(banked) == 1 and not banked & set(made)
    assert engine.steering.spreads == before
    assert (engine.steering.num_measured, engine.steering.num_updates) == (2, 0)


def test_all_slots_are_alike_for_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_ready(num_slots=16)
    seen: list[int] = []

    def watch(**kwargs: Any) -> torch.Tensor:
        # what is made comes first, then as much of the bank, in which there is nothing yet, and a true answer
        seen.extend(kwargs["candidates"][:, : kwargs["candidates"].shape[1] // 2].flatten().tolist())
        return torch.zeros(kwargs["candidates"].shape)

    monkeypatch.setattr("pykeen_dans.engine.steering.rank_percentiles", watch)
    # slots are in no particular order, but nearer ones tend to come first
    monkeypatch.setattr(engine, "propose", lambda rows: torch.arange(16).expand(len(rows), 4, 1, 16))
    for _ in range(20):
        engine.steer(cyclic_model())
    assert torch.tensor(seen).float().mean().item() == pytest.approx(7.5, abs=1.0)
