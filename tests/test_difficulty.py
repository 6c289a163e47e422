"""Structural features against loops, and the difficulty of entities."""

from __future__ import annotations

import math
import pathlib
import random
from collections import Counter
from typing import Any

import pytest
import torch
from pykeen.datasets import get_dataset
from scipy.stats import spearmanr

from pykeen_dans.graph import Graph
from pykeen_dans.graph import difficulty as module
from pykeen_dans.graph import graph as graph_module
from pykeen_dans.graph.difficulty import (
    ConstantDifficulty,
    LearnedDifficulty,
    difficulty_resolver,
    observed_difficulty,
    rank_normalise,
)
from pykeen_dans.graph.reference import ReferenceEmbedding
from pykeen_dans.graph.structural import FEATURE_NAMES, raw_structural_features, structural_features

from .utils import thread_that_draws

pytestmark = pytest.mark.usefixtures("isolated_cache")

NAMES = ("learned", "degree", "constant")
SIZES = dict(num_entities=40, num_relations=4)


def random_graph(num_triples: int = 150) -> torch.Tensor:
    """Make a graph with hubs, loops, multiple edges and (the last five of 40) entities without triples."""
    generator = torch.Generator().manual_seed(5)
    ends = (torch.rand(2, num_triples, generator=generator).square() * 35).long()
    relations = torch.randint(4, size=(num_triples,), generator=generator)
    triples = torch.stack([ends[0], relations, ends[1]], dim=-1)
    return torch.cat([triples, torch.tensor([[1, 0, 1], [2, 0, 3], [2, 1, 3]])]).unique(dim=0)


def make(triples: torch.Tensor | None = None, **kwargs: Any) -> Graph:
    reference = {"kind": "random", "dim": 8}
    triples = random_graph() if triples is None else triples
    return Graph(**{"mapped_triples": triples, "reference_kwargs": reference, **SIZES, **kwargs})


def features_by_loops(triples: torch.Tensor) -> torch.Tensor:
    rows = triples.tolist()
    neighbours: dict[int, set[int]] = {e: set() for e in range(40)}
    for h, _, t in rows:
        if h != t:
            neighbours[h].add(t)
            neighbours[t].add(h)
    result = []
    for e in range(40):
        outgoing, incoming = [r for h, r, _ in rows if h == e], [r for _, r, t in rows if t == e]
        counts = Counter(outgoing + incoming)
        shares = [count / counts.total() for count in counts.values()]
        degrees = [len(neighbours[other]) for other in neighbours[e]]
        result.append(
            [
                len(incoming),
                len(outgoing),
                len(incoming) + len(outgoing),
                len(set(incoming)),
                len(set(outgoing)),
                sum(degrees) / max(1, len(degrees)),
                -sum(share * math.log(share) for share in shares),
            ]
        )
    return torch.tensor(result, dtype=torch.double)


def test_features_against_loops() -> None:
    triples = random_graph()
    found, expected = raw_structural_features(mapped_triples=triples, **SIZES), features_by_loops(triples)
    assert found.shape == (40, len(FEATURE_NAMES))
    for column, name in enumerate(FEATURE_NAMES):
        assert torch.allclose(found[:, column], expected[:, column]), name


def test_features_are_scaled() -> None:
    scaled = structural_features(mapped_triples=random_graph(), **SIZES)
    assert scaled.shape == (40, len(FEATURE_NAMES))
    assert scaled.dtype == torch.float32
    assert torch.allclose(scaled.mean(dim=0), torch.zeros(()), atol=1e-5)
    assert torch.allclose(scaled.std(dim=0, unbiased=False), torch.ones(()), atol=1e-5)
    # counts are scaled by their logarithm
    raw = raw_structural_features(mapped_triples=random_graph(), **SIZES)[:, 2].log1p()
    assert torch.allclose(scaled[:, 2].double(), (raw - raw.mean()) / raw.std(unbiased=False), atol=1e-5)


def test_constant_features_are_zero() -> None:
    ring = torch.tensor([[e, 0, (e + 1) % 8] for e in range(8)])
    assert (structural_features(mapped_triples=ring, num_entities=8, num_relations=1) == 0).all()


def test_rank_normalise() -> None:
    assert rank_normalise(torch.tensor([5.0, 1.0, 3.0, 3.0])).tolist() == [0.875, 0.125, 0.5, 0.5]


def hardness_by_loops(triples: torch.Tensor, reference: ReferenceEmbedding) -> list[tuple[int, int, float]]:
    known = {tuple(row) for row in triples.tolist()}
    result = []
    for h, r, t in triples.tolist():
        for kept, answer, sign in ((h, t, 1), (t, h, -1)):
            distance = (reference.entities[kept] + sign * reference.relations[r] - reference.entities).norm(dim=-1)
            others = [e for e in range(len(distance)) if ((kept, r, e) if sign == 1 else (e, r, kept)) not in known]
            rank = 1 + sum(bool(distance[e] < distance[answer]) for e in others)
            result.append((kept, answer, 1 - 1 / rank))
    return result


@pytest.mark.parametrize("chunk", [1024, 7])
def test_observed_difficulty_against_loops(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    graph = make()
    hardness = hardness_by_loops(graph.mapped_triples, graph.reference)
    observed = observed_difficulty(
        index=graph.index, reference=graph.reference, random=torch.Generator(), shrinkage=2.0
    )
    mean = sum(value for _, _, value in hardness) / len(hardness)
    for entity in range(40):
        own = [value for kept, answer, value in hardness for end in (kept, answer) if end == entity]
        if own:
            assert observed[entity].item() == pytest.approx((sum(own) + 2 * mean) / (len(own) + 2), abs=1e-5)
        else:
            assert observed[entity].isnan()


def test_observed_difficulty_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_RANKED", 20)
    monkeypatch.setattr(module, "_POOL", 11)
    graph = make()
    observed = observed_difficulty(index=graph.index, reference=graph.reference, random=torch.Generator())
    known = observed[~observed.isnan()]
    assert 0 < len(known) < 40
    assert ((known >= 0) & (known < 1)).all()


def test_names() -> None:
    assert set(difficulty_resolver.options) == set(NAMES)
    assert difficulty_resolver.lookup(None) is LearnedDifficulty


def test_learned_on_real_data() -> None:
    training = get_dataset(dataset="umls").training
    zeta = Graph(
        mapped_triples=training.mapped_triples,
        num_entities=training.num_entities,
        num_relations=training.num_relations,
    ).difficulty()
    assert zeta.shape == (135,)
    assert ((zeta > 0) & (zeta < 1)).all()
    assert 0.4 <= zeta.mean() <= 0.6
    assert zeta.std() > 0.15


def test_learned_predicts_held_out_triples(toy_triples: torch.Tensor) -> None:
    held, train = toy_triples[:70], toy_triples[70:]
    sizes = dict(num_entities=90, num_relations=4)
    graph = make(train, **sizes, reference_kwargs={"dim": 16})
    zeta = graph.difficulty()
    observed = observed_difficulty(
        index=make(held, **sizes).index, reference=graph.reference, random=torch.Generator(), shrinkage=0.0
    )
    known = ~observed.isnan()
    assert spearmanr(zeta[known], observed[known]).statistic > 0.3
    # entities of the regular part are easier
    assert zeta[:60].mean() < zeta[60:].mean() - 0.1


def test_learned_is_deterministic(isolated_cache: pathlib.Path) -> None:
    zeta = make().difficulty()
    for path in isolated_cache.rglob("*.safetensors"):
        path.unlink()
    torch.manual_seed(99)
    before, python_before = torch.get_rng_state(), random.getstate()
    again = make().difficulty()
    assert torch.equal(zeta, again)
    assert torch.equal(before, torch.get_rng_state())
    assert python_before == random.getstate()
    assert not torch.equal(zeta, make().difficulty("learned", {"seed": 1}))


def test_learned_the_same_beside_a_thread_that_draws(isolated_cache: pathlib.Path) -> None:
    zeta = make().difficulty()
    for path in (isolated_cache / "difficulty").iterdir():
        path.unlink()
    with thread_that_draws():
        assert torch.equal(zeta, make().difficulty())


def test_learned_once(isolated_cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeta = make().difficulty()
    assert len(list((isolated_cache / "difficulty").iterdir())) == 1
    monkeypatch.setattr(LearnedDifficulty, "_learn", lambda *_: pytest.fail("learned again"))
    assert torch.equal(zeta, make().difficulty())
    with pytest.raises(pytest.fail.Exception):
        make().difficulty("learned", {"hidden_dim": 8})


@pytest.mark.parametrize("name", ["degree", "constant"])
def test_only_learned_pays_for_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "reference_embedding", lambda **_: pytest.fail("asked for the reference"))
    zeta = make().difficulty(name)
    assert ((zeta > 0) & (zeta < 1)).all()


def test_degree() -> None:
    star = torch.tensor([[0, 0, 1], [0, 0, 2], [0, 0, 3], [1, 0, 2]])
    zeta = make(star, num_entities=5).difficulty("degree")
    assert zeta.tolist() == pytest.approx([0.1, 0.4, 0.4, 0.7, 0.9])


def test_constant() -> None:
    assert ConstantDifficulty(value=0.3)(graph=make()).tolist() == pytest.approx([0.3] * 40)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("triples", "num_entities", "num_relations"),
    [
        (torch.empty(0, 3, dtype=torch.long), 3, 2),
        (torch.empty(0, 3, dtype=torch.long), 1, 1),
        (torch.tensor([[0, 0, 0]]), 1, 1),
        (torch.tensor([[0, 0, 0]]), 2, 1),
        (torch.tensor([[0, 0, 1]]), 2, 1),
        (torch.tensor([[0, 0, 1], [1, 0, 2], [2, 0, 0], [0, 0, 2]], dtype=torch.int32), 9, 1),
        (torch.tensor([[0, 0, 1], [1, 1, 0]]), 2, 4),
    ],
)
def test_tiny_graphs(name: str, triples: torch.Tensor, num_entities: int, num_relations: int) -> None:
    sizes = dict(num_entities=num_entities, num_relations=num_relations)
    zeta = make(triples, **sizes).difficulty(name)
    assert zeta.shape == (num_entities,)
    assert zeta.dtype == torch.float32
    assert ((zeta > 0) & (zeta < 1)).all()
    features = structural_features(mapped_triples=triples, **sizes)
    assert features.shape == (num_entities, len(FEATURE_NAMES))
    assert torch.isfinite(features).all()


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("learned", dict(hidden_dim=0), "hidden_dim=0 .*choose 1"),
        ("learned", dict(weight_decay=-1.0), r"weight_decay=-1\.0 .*choose"),
        ("learned", dict(shrinkage=-1.0), r"shrinkage=-1\.0 .*choose"),
        ("learned", dict(seed=-1), "seed=-1 .*choose 0"),
        ("constant", dict(value=1.0), r"value=1\.0 .*0\.5"),
        ("constant", dict(value=-0.1), r"value=-0\.1 .*choose"),
    ],
)
def test_bad_arguments(name: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().difficulty(name, kwargs)
