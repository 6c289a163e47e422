"""The engine: what is refreshed when, and that nothing wrong gets into the bank."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import Any

import pytest
import torch
from pykeen.models import ComplEx
from pykeen.triples import CoreTriplesFactory

from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.engine.settings import EngineSettings
from pykeen_dans.generators.base import Budget
from pykeen_dans.generators.diffusion import DiffusionGenerator
from pykeen_dans.graph import HEAD, TAIL
from pykeen_dans.space.entity_space import live_space

from .toys import (
    CLUSTER_SIZE,
    NUM_CLUSTERS,
    NUM_ENTITIES,
    NUM_RELATIONS,
    REFERENCE,
    SHORT_OF_MEMORY,
    clustered_triples,
    known_answers,
    make_space,
    seeded,
)

TRIPLES = clustered_triples()


def make_engine(**changes: Any) -> GenerationEngine:
    settings = EngineSettings(
        targets=(0.3, 0.2, 0.1, 0.05),
        min_spread=0.05,
        num_slots=4,
        memory=16.0,
        decoder=None,
        decoder_kwargs={"min_candidates": 4},
        difficulty="constant",
        difficulty_kwargs=None,
        num_types=4,
        reference_kwargs=REFERENCE,
        device=None,
        sides=(HEAD, TAIL),
        seed=0,
    )
    return GenerationEngine(
        mapped_triples=TRIPLES,
        num_entities=NUM_ENTITIES,
        num_relations=NUM_RELATIONS,
        settings=dataclasses.replace(settings, **changes),
        make_generator=functools.partial(DiffusionGenerator, num_relations=NUM_RELATIONS, hidden_dim=8, batch_size=32),
    )


def make_ready(**changes: Any) -> GenerationEngine:
    engine = make_engine(**changes)
    engine.enter(engine.reference_space())
    engine.fit(Budget(units=2))
    return engine


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
    assert (engine.bank.ids[:, 0, 0] < 0).sum() == 5
    assert engine.refresh(Budget(units=20)).queries == 20
    assert engine.bank.filled == 1.0


def test_a_refresh_writes_what_its_budget_allows() -> None:
    engine = make_ready()
    report = engine.refresh(Budget(units=10))
    written = (engine.bank.ids >= 0).any(dim=-1).any(dim=-1)
    assert report.queries == written.sum() == 10
    assert engine.bank.filled == pytest.approx(10 / engine.bank.num_rows)
    before = engine.bank.ids.clone()
    engine.refresh(Budget(units=7))
    changed = (engine.bank.ids != before).any(dim=-1).any(dim=-1)
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
    engine = GenerationEngine(
        mapped_triples=torch.tensor([[0, 0, 0], [0, 0, 1]]),
        num_entities=2,
        num_relations=1,
        settings=make_engine().settings,
        make_generator=functools.partial(DiffusionGenerator, num_relations=1, hidden_dim=8),
    )
    engine.enter(engine.reference_space())
    report = engine.refresh(Budget())
    assert report.queries == 3
    assert report.empty == pytest.approx(1 / 3)
    (everything_known,) = engine.index.find(torch.tensor([0]), torch.tensor([0]), TAIL).tolist()
    for row, ids in enumerate(engine.bank.ids):
        assert ids.unique().tolist() == [-1 if row == everything_known else 1]


def test_known_answers_are_never_proposed() -> None:
    engine = make_ready(num_slots=16)
    rows = torch.arange(engine.index.num_queries)
    ids = engine.propose(rows)
    assert ids.shape == (len(rows), 4, 16)
    assert ids.min() >= 0
    assert ids.max() < NUM_ENTITIES
    queries = engine.index.select(rows)
    for kept, relation, side, found in zip(
        queries.kept.tolist(), queries.relations.tolist(), queries.sides.tolist(), ids.tolist(), strict=True
    ):
        known = known_answers(TRIPLES, kept=kept, relation=relation, tail=side == TAIL)
        assert not known & {entity for band in found for entity in band}


def test_the_bank_keeps_what_was_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_ready()
    monkeypatch.setattr(engine, "propose", lambda rows: rows[:, None, None].expand(-1, 4, 4))
    engine.refresh(Budget())
    assert torch.equal(engine.bank.ids[:, 0, 0], torch.arange(engine.bank.num_rows, dtype=torch.int32))


# Seeds


@pytest.mark.parametrize("memory", [16.0, SHORT_OF_MEMORY])
def test_the_same_seed_gives_the_same_bank(memory: float) -> None:
    def run(seed: int, global_seed: int) -> torch.Tensor:
        torch.manual_seed(global_seed)
        engine = make_ready(seed=seed, memory=memory)
        engine.refresh(Budget(units=30))
        engine.fit(Budget(units=2))
        engine.refresh(Budget())
        return engine.bank.ids

    # whatever the state of torch's global generator
    assert torch.equal(run(1, global_seed=5), run(1, global_seed=6))
    assert not torch.equal(run(1, global_seed=5), run(2, global_seed=5))


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    make_ready().refresh(Budget())
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
    engine.enter(make_space(vectors))
    first = engine.generator
    engine.enter(make_space(vectors + 1))
    assert engine.generator is first
    engine.enter(make_space(vectors[:, :4]))
    second = engine.generator
    assert second is not first
    # another device, even one without memory
    space = make_space(vectors[:, :4])
    elsewhere = {f.name: getattr(space, f.name) for f in dataclasses.fields(space)}
    engine.enter(
        dataclasses.replace(space, **{k: v.to("meta") for k, v in elsewhere.items() if isinstance(v, torch.Tensor)})
    )
    assert engine.generator is not second
    assert engine.generator is not None
    assert {parameter.device.type for parameter in engine.generator.parameters()} == {"meta"}


def test_queries_of_many_positives_come_early() -> None:
    engine = make_ready()
    uses = engine.index.num_answers(torch.arange(engine.index.num_queries)).double()
    early, late = [], []
    for _ in range(20):
        order = engine._next(engine.index.num_queries)
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


def test_negatives_are_generated_on_the_device_that_is_asked_for() -> None:
    # a device without data, which is there on any machine
    engine = make_engine(device="meta")
    engine.enter(engine.reference_space())
    assert engine.space is not None and engine.space.device.type == "meta"
    assert engine.generator is not None
    assert {parameter.device.type for parameter in engine.generator.parameters()} == {"meta"}


@pytest.mark.parametrize("complex_valued", [True, False])
def test_vectors_are_given_in_the_space_of_the_model(complex_valued: bool) -> None:
    engine = make_engine()
    dtype = torch.complex64 if complex_valued else torch.float32
    entities = 5 + 0.1 * torch.randn(NUM_ENTITIES, 6, generator=seeded(), dtype=dtype)
    engine.enter(make_space(entities))
    vectors = engine.generate(torch.arange(20))
    assert vectors.shape == (20, 4, 6)
    assert vectors.dtype == dtype
    # as large as those of entities, rather than standardised
    assert (vectors.real.mean() - 5).abs() < 0.5


# Steering


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


def test_negatives_are_harder_for_the_model_in_later_bands() -> None:
    model = cyclic_model()
    # bands of one spread, so that only the generator can tell them apart
    engine = make_engine(targets=(0.05, 0.05, 0.05, 0.05), min_spread=0.1, num_slots=8)
    engine.enter(live_space(model))
    engine.fit(Budget(units=100))
    measured = engine.steer(model, num_queries=200)
    # the two hardest are as near to the answers as this small graph allows
    assert all(harder < easier + 0.005 for easier, harder in itertools.pairwise(measured))
    assert measured[0] - measured[-1] > 0.02
    assert engine.steering.measured == measured
    # uniform negatives have a percentile of one half
    assert measured[0] < 0.3


def test_steering_leads_to_the_targets() -> None:
    model = cyclic_model()
    engine = make_engine(targets=(0.4, 0.3, 0.2, 0.1), num_slots=8)
    engine.enter(live_space(model))
    engine.fit(Budget(units=100))
    for _ in range(8):
        engine.steer(model, num_queries=100)
    measured = torch.tensor([engine.steer(model, num_queries=100) for _ in range(3)]).mean(dim=0)
    assert measured.tolist() == pytest.approx((0.4, 0.3, 0.2, 0.1), rel=0.3)
    assert model.training


def test_small_graphs_have_spreads_of_some_candidates_at_least() -> None:
    for min_candidates, expected in ((1, 0.05), (18, 18 / NUM_ENTITIES), (1000, 1.0)):
        engine = make_engine(decoder_kwargs={"min_candidates": min_candidates}, targets=(0.01, 0.01, 0.01, 0.01))
        assert engine.steering.spreads == pytest.approx([expected] * 4)


def test_a_band_without_candidates_is_not_steered(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_ready()
    monkeypatch.setattr(engine, "propose", lambda rows: torch.full((len(rows), 4, 4), -1))
    before = list(engine.steering.spreads)
    assert all(math.isnan(value) for value in engine.steer(cyclic_model()))
    assert engine.steering.spreads == before


def test_all_slots_are_alike_for_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_ready(num_slots=16)
    seen: list[int] = []

    def watch(**kwargs: Any) -> torch.Tensor:
        seen.extend(kwargs["candidates"].flatten().tolist())
        return torch.zeros(kwargs["candidates"].shape)

    monkeypatch.setattr("pykeen_dans.engine.engine.rank_percentiles", watch)
    # slots are in no particular order, but nearer ones tend to come first
    monkeypatch.setattr(engine, "propose", lambda rows: torch.arange(16).expand(len(rows), 4, 16))
    for _ in range(20):
        engine.steer(cyclic_model())
    assert torch.tensor(seen).float().mean().item() == pytest.approx(7.5, abs=1.0)


# Samplers
