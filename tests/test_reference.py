"""The reference embedding: trained once, decently, and without a trace in the caller's random state."""

from __future__ import annotations

import gc
import logging
import math
import pathlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from pykeen_dans.graph import reference
from pykeen_dans.graph.reference import ReferenceEmbedding, ReferencePlan, reference_embedding

from .utils import thread_that_draws

pytestmark = pytest.mark.usefixtures("isolated_cache")

SIZES = dict(num_entities=90, num_relations=4)


def embed(triples: torch.Tensor, **kwargs: object) -> ReferenceEmbedding:
    return reference_embedding(
        **{"mapped_triples": triples, **SIZES, "dim": 16, "num_epochs": 10, "use_tqdm": False, **kwargs}
    )


def forget(isolated_cache: pathlib.Path) -> None:
    """Empty both caches."""
    gc.collect()
    reference._alive.clear()
    for path in isolated_cache.rglob("*.safetensors"):
        path.unlink()


def mean_rank(embedding: ReferenceEmbedding, triples: torch.Tensor) -> float:
    """Compute the mean unfiltered rank of the tails."""
    head, relation, tail = triples.T
    distance = torch.cdist(embedding.entities[head] + embedding.relations[relation], embedding.entities)
    return 1 + (distance < distance.gather(1, tail[:, None])).sum(dim=-1).float().mean().item()


def test_learns(toy_triples: torch.Tensor) -> None:
    regular = toy_triples[toy_triples[:, 0] < 60]
    trained = embed(toy_triples, num_epochs=None)
    assert trained.entities.shape == (90, 16)
    assert trained.relations.shape == (4, 16)
    assert trained.entities.dtype == trained.relations.dtype == torch.float32
    assert not trained.entities.requires_grad
    assert trained.entities.device.type == "cpu"
    assert torch.allclose(trained.entities.norm(dim=-1), torch.ones(90), atol=1e-4)
    by_chance = mean_rank(embed(toy_triples, kind="random"), regular)
    assert mean_rank(trained, regular) < by_chance / 4


def test_same_for_the_same_seed(toy_triples: torch.Tensor, isolated_cache: pathlib.Path) -> None:
    vectors = embed(toy_triples).entities.clone()
    forget(isolated_cache)
    torch.manual_seed(17)
    assert torch.equal(embed(toy_triples).entities, vectors)
    assert not torch.equal(embed(toy_triples, seed=1).entities, vectors)


@pytest.fixture
def two_threads() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(num_threads)


@pytest.mark.usefixtures("two_threads")
def test_the_callers_state_is_left_alone(toy_triples: torch.Tensor) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    embed(toy_triples)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_trains_without_gradients_around_it(context, toy_triples: torch.Tensor, isolated_cache: pathlib.Path) -> None:
    with context():
        vectors = embed(toy_triples).entities.clone()
    forget(isolated_cache)
    assert torch.equal(embed(toy_triples).entities, vectors)


def test_trained_once(toy_triples: torch.Tensor, isolated_cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = embed(toy_triples)
    assert len(list((isolated_cache / "reference").iterdir())) == 1
    monkeypatch.setattr(reference, "_train", lambda *_, **__: pytest.fail("trained again"))
    # in memory while it is held, and on disk afterwards
    assert embed(toy_triples) is first
    vectors = first.entities.clone()
    del first
    gc.collect()
    assert not reference._alive
    assert torch.equal(embed(toy_triples).entities, vectors)


@pytest.mark.parametrize(
    "change", [dict(seed=1), dict(dim=8), dict(num_epochs=2), dict(num_entities=91), dict(num_relations=5)]
)
def test_other_arguments_are_trained_for(
    change: dict[str, int], toy_triples: torch.Tensor, isolated_cache: pathlib.Path
) -> None:
    embed(toy_triples, num_epochs=1)
    embed(toy_triples, **{"num_epochs": 1, **change})
    embed(toy_triples[1:], num_epochs=1)
    assert len(list((isolated_cache / "reference").iterdir())) == 3


def _flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[-400:-360] = bytes(255 - byte for byte in content[-400:-360])
    path.write_bytes(content)


def _truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("spoil", [_flip, _truncate])
def test_a_damaged_file_is_made_anew(
    spoil: Callable[[pathlib.Path], None],
    toy_triples: torch.Tensor,
    isolated_cache: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    vectors = embed(toy_triples).entities.clone()
    gc.collect()
    reference._alive.clear()
    (path,) = (isolated_cache / "reference").iterdir()
    spoil(path)
    with caplog.at_level(logging.WARNING, logger="pykeen_dans"):
        assert torch.equal(embed(toy_triples).entities, vectors)
    (record,) = [record for record in caplog.records if record.name.startswith("pykeen_dans")]
    assert str(path) in record.getMessage()


def test_random_vectors_cost_nothing(toy_triples: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_train", lambda *_, **__: pytest.fail("trained"))
    vectors = embed(toy_triples, kind="random")
    assert torch.equal(vectors.entities, embed(toy_triples, kind="random").entities)
    assert not torch.equal(vectors.entities, embed(toy_triples, kind="random", seed=1).entities)
    assert torch.allclose(vectors.entities.norm(dim=-1), torch.ones(90))


@pytest.mark.parametrize(
    ("triples", "num_entities", "num_relations"),
    [
        (torch.empty(0, 3, dtype=torch.long), 5, 2),
        (torch.empty(0, 3, dtype=torch.long), 1, 0),
        (torch.tensor([[0, 0, 0]]), 1, 1),
        (torch.tensor([[0, 0, 1]]), 2, 1),
        (torch.tensor([[0, 1, 1]], dtype=torch.int32), 4, 3),
    ],
)
def test_tiny_graphs(triples: torch.Tensor, num_entities: int, num_relations: int) -> None:
    vectors = embed(triples, num_entities=num_entities, num_relations=num_relations)
    assert vectors.entities.shape == (num_entities, 16)
    assert vectors.relations.shape == (num_relations, 16)
    assert torch.isfinite(vectors.entities).all()


@pytest.mark.parametrize("use_tqdm", [True, False])
@pytest.mark.parametrize("patience", [0.0, 60.0])
def test_a_progress_bar_where_it_takes_long(
    patience: float,
    use_tqdm: bool,
    toy_triples: torch.Tensor,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reference, "_PATIENCE", patience)
    embed(toy_triples, use_tqdm=use_tqdm)
    shown = capfd.readouterr().err
    assert ("Training the reference embedding: 100%" in shown) == (use_tqdm and not patience)


def test_bit_for_bit_the_same_beside_a_thread_that_draws(
    toy_triples: torch.Tensor, isolated_cache: pathlib.Path
) -> None:
    alone = embed(toy_triples)
    vectors, relations = alone.entities.clone(), alone.relations.clone()
    del alone
    forget(isolated_cache)
    with thread_that_draws():
        beside = embed(toy_triples)
    assert torch.equal(beside.entities, vectors)
    assert torch.equal(beside.relations, relations)


def test_plan_is_bounded() -> None:
    codex = ReferencePlan.create(num_triples=32_888, num_entities=2_034)
    assert codex == ReferencePlan(num_seen=24 * 32_888, batch_size=1024)
    huge = ReferencePlan.create(num_triples=10_000_000, num_entities=2_000_000)
    assert huge.num_seen <= 3_500_000
    assert huge.num_updates < 120
    for num_triples in (1, 100, 10_000, 1_000_000, 100_000_000):
        for num_entities in (2, 1_000, 1_000_000, 100_000_000):
            plan = ReferencePlan.create(num_triples=num_triples, num_entities=num_entities)
            assert 20_000 <= plan.num_seen <= 3_500_000
            assert plan.num_updates <= 2_000
            assert math.log2(plan.batch_size).is_integer()
    # the start of a small graph costs little
    assert ReferencePlan.create(num_triples=1_592, num_entities=14).num_updates < 600
    assert ReferencePlan.create(num_triples=10_000_000, num_entities=9, num_epochs=2).num_seen == 20_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(kind="nope"), "kind='nope' .*random, transe"),
        (dict(dim=0), "dim=0 .*choose 1"),
        (dict(num_epochs=0), "num_epochs=0 .*choose 1"),
        (dict(seed=-1), "seed=-1 .*choose 0"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str, toy_triples: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=message):
        embed(toy_triples, **change)
