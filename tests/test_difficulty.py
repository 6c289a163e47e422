"""Structural features against networkx, and the difficulty of entities."""

from __future__ import annotations

import logging
import math
import pathlib
import random
from collections import Counter

import networkx as nx
import pytest
import torch
from pykeen.datasets import get_dataset
from scipy.stats import spearmanr

from pykeen_dans.graph import difficulty as module
from pykeen_dans.graph import structural as features_module
from pykeen_dans.graph.difficulty import (
    ConstantDifficulty,
    DegreeDifficulty,
    Difficulty,
    LearnedDifficulty,
    difficulty_resolver,
    observed_difficulty,
    rank_normalise,
)
from pykeen_dans.graph.reference import ReferenceEmbedding, reference_embedding
from pykeen_dans.graph.structural import FEATURE_NAMES, raw_structural_features, structural_features

pytestmark = pytest.mark.usefixtures("isolated_cache")

NAMES = ("learned", "degree", "constant")


def random_graph(num_triples: int = 150, num_entities: int = 40, num_relations: int = 4) -> torch.Tensor:
    """Make a graph with hubs, loops, multiple edges and (the last five) entities without triples."""
    generator = torch.Generator().manual_seed(5)
    ends = (torch.rand(2, num_triples, generator=generator).square() * (num_entities - 5)).long()
    relations = torch.randint(num_relations, size=(num_triples,), generator=generator)
    triples = torch.stack([ends[0], relations, ends[1]], dim=-1)
    return torch.cat([triples, torch.tensor([[1, 0, 1], [2, 0, 3], [2, 1, 3]])]).unique(dim=0)


def features_by_networkx(triples: torch.Tensor, num_entities: int) -> torch.Tensor:
    rows = triples.tolist()
    simple: nx.Graph = nx.Graph((h, t) for h, _, t in rows if h != t)
    simple.add_nodes_from(range(num_entities))
    weighted: nx.DiGraph = nx.DiGraph()
    weighted.add_nodes_from(range(num_entities))
    for (h, t), count in Counter((h, t) for h, _, t in rows).items():
        weighted.add_edge(h, t, weight=count)
    clustering, core = nx.clustering(simple), nx.core_number(simple)
    neighbour = nx.average_neighbor_degree(simple)
    page_rank = nx.pagerank(weighted, alpha=0.85, tol=1e-12, max_iter=500)
    result = []
    for e in range(num_entities):
        out_relations, in_relations = [r for h, r, _ in rows if h == e], [r for _, r, t in rows if t == e]
        counts = Counter(out_relations + in_relations)
        shares = [count / counts.total() for count in counts.values()]
        result.append(
            [
                len(in_relations),
                len(out_relations),
                len(in_relations) + len(out_relations),
                len(set(in_relations)),
                len(set(out_relations)),
                neighbour[e],
                -sum(share * math.log(share) for share in shares),
                clustering[e],
                page_rank[e],
                core[e],
            ]
        )
    return torch.tensor(result, dtype=torch.double)


@pytest.mark.parametrize("chunk", [4096, 7])
def test_features_against_networkx(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_module, "_CHUNK", chunk)
    triples = random_graph()
    found, expected = raw_structural_features(triples, 40, 4), features_by_networkx(triples, 40)
    assert expected[:, 7].max() > 0.1
    assert expected[:, 9].max() > 3
    for column, name in enumerate(FEATURE_NAMES):
        assert torch.allclose(found[:, column], expected[:, column], atol=1e-4 if name == "page_rank" else 1e-9), name


def test_features_are_scaled() -> None:
    scaled = structural_features(random_graph(), 40, 4)
    assert scaled.shape == (40, 10)
    assert scaled.dtype == torch.float32
    assert torch.allclose(scaled.mean(dim=0), torch.zeros(10), atol=1e-5)
    assert torch.allclose(scaled.std(dim=0, unbiased=False), torch.ones(10), atol=1e-5)
    # counts are scaled by their logarithm
    raw = raw_structural_features(random_graph(), 40, 4)[:, 2].log1p()
    assert torch.allclose(scaled[:, 2].double(), (raw - raw.mean()) / raw.std(unbiased=False), atol=1e-5)


def test_constant_features_are_zero() -> None:
    ring = torch.tensor([[e, 0, (e + 1) % 8] for e in range(8)])
    assert torch.equal(structural_features(ring, 8, 1), torch.zeros(8, 10))


def test_large_graphs_have_no_triangles_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(features_module, "_MAX_EDGES", 10)
    with caplog.at_level(logging.INFO, logger="pykeen_dans"):
        raw = raw_structural_features(random_graph(), 40, 4)
    assert (raw[:, [7, 9]] == 0).all()
    assert "core number" in caplog.text


def test_rank_normalise() -> None:
    assert rank_normalise(torch.tensor([5.0, 1.0, 3.0, 3.0])).tolist() == [0.875, 0.125, 0.5, 0.5]


def ranks_by_loops(triples: torch.Tensor, reference: ReferenceEmbedding) -> list[float]:
    known = {tuple(row) for row in triples.tolist()}
    result = []
    for h, r, t in triples.tolist():
        hardness = []
        for kept, answer, sign in ((h, t, 1), (t, h, -1)):
            distance = (reference.entities[kept] + sign * reference.relations[r] - reference.entities).norm(dim=-1)
            others = [e for e in range(len(distance)) if ((kept, r, e) if sign == 1 else (e, r, kept)) not in known]
            rank = 1 + sum(bool(distance[e] < distance[answer]) for e in others)
            hardness.append(1 - 1 / rank)
        result.append(sum(hardness) / 2)
    return result


def test_observed_difficulty_against_loops() -> None:
    triples = random_graph()
    reference = reference_embedding(mapped_triples=triples, num_entities=40, num_relations=4, kind="random", dim=8)
    hardness = ranks_by_loops(triples, reference)
    observed = observed_difficulty(mapped_triples=triples, reference=reference, num_relations=4, shrinkage=2.0)
    mean = sum(hardness) / len(hardness)
    for entity in range(40):
        own = [u for (h, _, t), u in zip(triples.tolist(), hardness, strict=True) for end in (h, t) if end == entity]
        assert bool(observed.known[entity]) == bool(own)
        assert observed.difficulty[entity].item() == pytest.approx((sum(own) + 2 * mean) / (len(own) + 2), abs=1e-5)


def test_observed_difficulty_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_RANKED", 20)
    monkeypatch.setattr(module, "_CHUNK", 7)
    monkeypatch.setattr(module, "_POOL", 11)
    triples = random_graph()
    reference = reference_embedding(mapped_triples=triples, num_entities=40, num_relations=4, kind="random", dim=8)
    observed = observed_difficulty(mapped_triples=triples, reference=reference, num_relations=4)
    assert 0 < observed.known.sum() <= 40
    assert ((observed.difficulty >= 0) & (observed.difficulty < 1)).all()


def make(name: str = "learned", **kwargs: object) -> Difficulty:
    if name == "learned":
        kwargs = {"dim": 16, "use_tqdm": False, **kwargs}
    return difficulty_resolver.make(name, pos_kwargs=kwargs)


def test_names() -> None:
    assert set(difficulty_resolver.options) == set(NAMES)
    assert difficulty_resolver.lookup(None) is LearnedDifficulty


@pytest.fixture(scope="module")
def umls() -> dict[str, object]:
    training = get_dataset(dataset="umls").training
    return dict(
        mapped_triples=training.mapped_triples,
        num_entities=training.num_entities,
        num_relations=training.num_relations,
    )


def test_learned_on_real_data(umls: dict[str, object]) -> None:
    zeta = make(dim=32)(**umls)
    assert zeta.shape == (135,)
    assert ((zeta > 0) & (zeta < 1)).all()
    assert 0.4 <= zeta.mean() <= 0.6
    assert zeta.std() > 0.15


def test_learned_predicts_held_out_triples(toy_triples: torch.Tensor) -> None:
    held, train = toy_triples[:70], toy_triples[70:]
    sizes = dict(num_entities=90, num_relations=4)
    zeta = make()(mapped_triples=train, **sizes)
    reference = reference_embedding(mapped_triples=train, dim=16, use_tqdm=False, **sizes)
    observed = observed_difficulty(mapped_triples=held, reference=reference, num_relations=4, shrinkage=0.0)
    assert spearmanr(zeta[observed.known], observed.difficulty[observed.known]).statistic > 0.3
    # entities of the regular part are easier
    assert zeta[:60].mean() < zeta[60:].mean() - 0.1


def test_learned_is_deterministic(toy_triples: torch.Tensor, isolated_cache: pathlib.Path) -> None:
    kwargs = dict(mapped_triples=toy_triples, num_entities=90, num_relations=4)
    zeta = make(num_epochs=5)(**kwargs)
    for path in isolated_cache.rglob("*.safetensors"):
        path.unlink()
    torch.manual_seed(99)
    before, python_before = torch.get_rng_state(), random.getstate()
    again = make(num_epochs=5)(**kwargs)
    assert torch.equal(zeta, again)
    assert torch.equal(before, torch.get_rng_state())
    assert python_before == random.getstate()
    assert not torch.equal(zeta, make(num_epochs=5)(**kwargs, seed=1))


def test_learned_once(toy_triples: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    kwargs = dict(mapped_triples=toy_triples, num_entities=90, num_relations=4)
    zeta = make(num_epochs=5)(**kwargs)
    monkeypatch.setattr(module, "reference_embedding", lambda **_: pytest.fail("asked for the reference again"))
    assert torch.equal(zeta, make(num_epochs=5)(**kwargs))
    with pytest.raises(pytest.fail.Exception):
        make(num_epochs=5, hidden_dim=8)(**kwargs)


@pytest.mark.parametrize("name", ["degree", "constant"])
def test_only_learned_pays_for_the_reference(
    name: str, toy_triples: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "reference_embedding", lambda **_: pytest.fail("asked for the reference"))
    zeta = make(name)(mapped_triples=toy_triples, num_entities=90, num_relations=4)
    assert ((zeta > 0) & (zeta < 1)).all()


def test_random_reference_is_not_trained(toy_triples: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    from pykeen_dans.graph import reference

    monkeypatch.setattr(reference, "_train", lambda **_: pytest.fail("trained"))
    zeta = make(reference="random")(mapped_triples=toy_triples, num_entities=90, num_relations=4)
    assert ((zeta > 0) & (zeta < 1)).all()


def test_degree() -> None:
    star = torch.tensor([[0, 0, 1], [0, 0, 2], [0, 0, 3], [1, 0, 2]])
    zeta = DegreeDifficulty()(mapped_triples=star, num_entities=5, num_relations=1)
    assert zeta.tolist() == pytest.approx([0.1, 0.4, 0.4, 0.7, 0.9])


def test_constant() -> None:
    zeta = ConstantDifficulty(value=0.3)(mapped_triples=torch.empty(0, 3).long(), num_entities=4, num_relations=1)
    assert zeta.tolist() == pytest.approx([0.3] * 4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("triples", "num_entities", "num_relations"),
    [
        (torch.empty(0, 3, dtype=torch.long), 3, 2),
        (torch.empty(0, 3, dtype=torch.long), 1, 1),
        (torch.tensor([[0, 0, 0]]), 1, 1),
        (torch.tensor([[0, 0, 0]]), 2, 1),
        (torch.tensor([[0, 0, 1]]), 2, 1),
        (torch.tensor([[0, 0, 1], [1, 0, 2], [2, 0, 0], [0, 0, 2]]), 9, 1),
        (torch.tensor([[0, 0, 1], [1, 1, 0]]), 2, 4),
    ],
)
def test_tiny_graphs(name: str, triples: torch.Tensor, num_entities: int, num_relations: int) -> None:
    kwargs = {"num_epochs": 2} if name == "learned" else {}
    zeta = make(name, **kwargs)(mapped_triples=triples, num_entities=num_entities, num_relations=num_relations)
    assert zeta.shape == (num_entities,)
    assert zeta.dtype == torch.float32
    assert ((zeta > 0) & (zeta < 1)).all()
    features = structural_features(triples, num_entities, num_relations)
    assert features.shape == (num_entities, 10)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("learned", dict(reference="nope"), "reference='nope' .*random, transe"),
        ("learned", dict(dim=0), "dim=0 .*choose 1"),
        ("learned", dict(dropout=1.5), r"dropout=1\.5 .*\[0, 1\]"),
        ("learned", dict(learning_rate=0.0), r"learning_rate=0\.0 .*choose"),
        ("learned", dict(shrinkage=-1.0), r"shrinkage=-1\.0 .*choose"),
        ("constant", dict(value=1.0), r"value=1\.0 .*0\.5"),
        ("constant", dict(value=-0.1), r"value=-0\.1 .*choose"),
    ],
)
def test_bad_arguments(name: str, kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **kwargs)
