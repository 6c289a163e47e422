"""The graph: each part is made when it is asked for, once, and all of them of one reference embedding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pykeen_dans.graph import HEAD, TAIL, Graph
from pykeen_dans.graph import graph as module
from pykeen_dans.graph import types as types_module
from pykeen_dans.graph.difficulty import ConstantDifficulty, LearnedDifficulty
from pykeen_dans.graph.types import EntityTypes, default_num_types

pytestmark = pytest.mark.usefixtures("isolated_cache")

TRIPLES = torch.tensor([[0, 0, 1], [0, 0, 2], [1, 1, 2], [2, 1, 3], [3, 0, 0]])


def make(triples: torch.Tensor = TRIPLES, **kwargs: Any) -> Graph:
    return Graph(**{"mapped_triples": triples, "num_entities": 5, "num_relations": 2, **kwargs})


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """Note the keyword arguments of calls that still do what they did."""
    calls, inner = [], getattr(owner, name)

    def noting(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return inner(*args, **kwargs)

    monkeypatch.setattr(owner, name, noting)
    return calls


def test_nothing_is_made_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, indexed = (
        count_calls(monkeypatch, module, "reference_embedding"),
        count_calls(monkeypatch, module, "QueryIndex"),
    )
    graph = make()
    assert (graph.difficulty("constant") == 0.5).all()
    assert graph.difficulty("degree").shape == (5,)
    assert not trained
    assert not indexed


def test_each_part_is_made_once_of_one_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = count_calls(monkeypatch, module, "reference_embedding")
    clustered = count_calls(monkeypatch, types_module.EntityTypes, "cluster")
    graph = make(reference_kwargs=dict(dim=8, num_epochs=1, seed=3))
    assert graph.index is graph.index
    assert graph.reference.entities.shape == (5, 8)
    assert graph.types() is graph.types()
    assert graph.types(2) is graph.types(2)
    assert graph.types(2).num_types == 2
    assert graph.types().num_types == default_num_types(5)
    learned = graph.difficulty()
    assert learned is graph.difficulty("learned") is graph.difficulty(LearnedDifficulty, {})
    assert learned is not graph.difficulty("learned", {"shrinkage": 1.0})
    assert graph.difficulty("learned", {"shrinkage": 1.0}) is graph.difficulty("learned", {"shrinkage": 1.0})
    assert graph.difficulty("constant", {"value": 0.2})[0] == pytest.approx(0.2)
    assert graph.difficulty("constant")[0] == 0.5
    instance = ConstantDifficulty(value=0.3)
    assert graph.difficulty(instance) is graph.difficulty(instance)
    assert graph.difficulty(ConstantDifficulty(value=0.4))[0] == pytest.approx(0.4)
    assert len(trained) == 1
    assert trained[0]["dim"] == 8
    assert trained[0]["seed"] == 3
    assert len(clustered) == 2


def test_difficulty_follows_the_reference() -> None:
    one, other = (make(reference_kwargs=dict(kind="random", dim=4, seed=seed)).difficulty() for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("sides", [(HEAD, TAIL), (TAIL,)])
def test_positives_are_drawn_as_often_as_they_occur(sides: tuple[int, ...]) -> None:
    graph = make(sides=sides)
    queries, answers = graph.sample_positives(4000, torch.Generator().manual_seed(0))
    heads = torch.where(queries.sides == TAIL, queries.kept, answers)
    tails = torch.where(queries.sides == TAIL, answers, queries.kept)
    drawn, counts = torch.stack([heads, queries.relations, tails], dim=-1).unique(dim=0, return_counts=True)
    assert torch.equal(drawn, TRIPLES.unique(dim=0))
    assert counts.min() > 0.85 * 4000 / 5
    assert set(queries.sides.tolist()) == set(sides)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(dims=3), r"reference_kwargs has dims.*it takes kind, dim, num_epochs, seed, use_tqdm"),
        (dict(mapped_triples=None), "reference_kwargs has mapped_triples"),
        (dict(kind="nope"), "kind='nope' .*random, transe"),
        (dict(dim=0), "dim=0 .*choose 1"),
        (dict(num_epochs=0), "num_epochs=0 .*choose 1"),
        (dict(seed=-1), "seed=-1 .*choose 0"),
    ],
)
def test_bad_options_of_the_reference_are_told_at_once(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(reference_kwargs=kwargs)


def test_bad_difficulty() -> None:
    with pytest.raises(ValueError, match=r"difficulty='nope' is unknown.*constant, degree, learned"):
        make().difficulty("nope")
    with pytest.raises(ValueError, match="difficulty_kwargs has dim, which LearnedDifficulty does not take"):
        make().difficulty("learned", {"dim": 3})


def test_a_graph_without_triples_has_no_index() -> None:
    graph = make(torch.empty(0, 3, dtype=torch.long))
    assert (graph.difficulty() == 0.5).all()
    assert graph.types().labels.shape == (5,)
    with pytest.raises(ValueError, match="mapped_triples is empty"):
        _ = graph.index


@pytest.mark.parametrize(("num_entities", "expected"), [(3, 3), (20, 8), (5_000, 50), (10**6, 256)])
def test_number_of_types(num_entities: int, expected: int) -> None:
    assert default_num_types(num_entities) == expected


def test_types_are_clusters() -> None:
    centres = 10 * torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    own = torch.arange(40) % 4
    vectors = centres[own] + 0.1 * torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    types = EntityTypes.cluster(vectors, num_types=4)
    assert ((types.labels[:, None] == types.labels) == (own[:, None] == own)).all()
    assert torch.allclose(types.centroids(vectors)[types.labels], centres[own], atol=0.2)
    assert torch.equal(types.labels, EntityTypes.cluster(vectors, num_types=4).labels)
