"""Ablations of generators, each by one option of an engine: they work, and differ in what their name says alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.engine.settings import UpdateBudget
from pykeen_dans.generators import DiffusionGenerator, TwoWayGANGenerator
from pykeen_dans.graph import TAIL, Graph

from .toys import (
    NUM_ENTITIES,
    NUM_RELATIONS,
    REFERENCE,
    clustered_graph,
    clustered_space,
    clustered_triples,
    known_answers,
    make_engine,
)

#: The papers' ablations, and the controls of the benchmarks, with what they leave of sources
ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "w/o DAM": ("diffusion", dict(difficulty="constant")),
    "degree": ("diffusion", dict(difficulty="degree")),
    "w/o CCD": ("diffusion", dict(conditioned=False)),
    "all steps": ("diffusion", dict(num_steps=None)),
    "l1": ("diffusion", dict(noise_loss="l1")),
    "noise": ("diffusion", dict(trained=False)),
    "ridge": ("ridge", {}),
    "one way": ("two-way-gan", dict(pathways="entity")),
    "other way": ("two-way-gan", dict(pathways="relation")),
    "w/o FiLM": ("two-way-gan", dict(film=False)),
    "w/o auxiliary loss": ("two-way-gan", dict(two_heads=False)),
    "w/o weight": ("two-way-gan", dict(pathway_weight=0.0)),
    "vectors of their own": ("two-way-gan", dict(residual=False)),
    "w/o GAN": ("two-way-gan", dict(trained=False)),
    "prior": ("prior", {}),
    "w/o hierarchy": ("hierarchical", {}),
}
BUDGET = UpdateBudget(fit_steps=3)


def updated(name: str, generator_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> GenerationEngine:
    engine = make_engine(name, generator_kwargs=generator_kwargs, **kwargs)
    engine.update(clustered_space(), None, BUDGET)
    return engine


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_fills_the_bank_with_entities_that_are_no_known_answers(name: str) -> None:
    generator, options = ABLATIONS[name]
    engine = updated(generator, options, known_answers="mask")
    num_sources = 1 if "pathways" in options or generator in ("diffusion", "ridge", "hierarchical") else 2
    assert engine.bank.ids.shape == (engine.index.num_queries, 4, num_sources, 4)
    assert ((engine.bank.ids >= 0) & (engine.bank.ids < NUM_ENTITIES)).all()
    rows = torch.arange(0, engine.index.num_queries, 17)
    queries = engine.index.select(rows)
    for row, kept, relation, side in zip(
        rows.tolist(), queries.kept.tolist(), queries.relations.tolist(), queries.sides.tolist(), strict=True
    ):
        known = known_answers(clustered_triples(), kept=kept, relation=relation, tail=side == TAIL)
        assert not known & set(engine.bank.ids[row].flatten().tolist())


#: The difficulty of the clustered graph is given, and the structural level alone is the default
SAME = ("w/o DAM", "degree", "w/o hierarchy")


@pytest.mark.parametrize("name", [name for name in ABLATIONS if name not in SAME])
def test_each_differs_from_what_it_is_an_ablation_of(name: str) -> None:
    """By one seed, an option that is given makes other vectors than one that is not."""
    generator, options = ABLATIONS[name]
    whole = {"ridge": "diffusion", "prior": "two-way-gan"}.get(generator, generator)
    vectors = []
    for engine in (updated(generator, options, graph=clustered_graph()), updated(whole, graph=clustered_graph())):
        engine.random.manual_seed(0)
        vectors.append(engine.generate(torch.arange(20))[:, :, 0])
    assert not torch.equal(*vectors)


def test_difficulty_is_what_it_is_called() -> None:
    """Without DAM, all entities have the same difficulty, and so the same schedule."""
    graph = Graph(
        mapped_triples=clustered_triples(),
        num_entities=NUM_ENTITIES,
        num_relations=NUM_RELATIONS,
        reference_kwargs=REFERENCE,
    )
    for name, is_constant in (("constant", True), ("degree", False)):
        generator = updated("diffusion", dict(difficulty=name), graph=graph).generator
        assert isinstance(generator, DiffusionGenerator)
        difficulty = generator.surroundings(clustered_space(), graph).difficulty
        assert (difficulty.unique().numel() == 1) == is_constant
        schedules = generator.schedule.alpha_bars(difficulty)
        assert bool((schedules == schedules[0]).all()) == is_constant


def test_what_is_switched_off_is_off() -> None:
    def gan(**kwargs: Any) -> TwoWayGANGenerator:
        generator = updated("two-way-gan", kwargs).generator
        assert isinstance(generator, TwoWayGANGenerator)
        return generator

    assert len(gan(film=False).pathways[0].films) == 0 < len(gan().pathways[0].films)
    assert gan().tells_pathways and not gan(two_heads=False).tells_pathways
    assert len(gan(pathways="entity").pathways) == 1
    assert not gan(pathways="entity").tells_pathways


def test_one_band() -> None:
    """The number of bands is that of the targets."""
    engine = updated("diffusion", dict(bands=(10,)), targets=(0.1,))
    assert engine.num_bands == engine.bank.ids.shape[1] == 1
    with pytest.raises(ValueError, match=r"bands=\(10,\) are not 2, the number of targets"):
        make_engine("diffusion", generator_kwargs=dict(bands=(10,)), targets=(0.2, 0.1))


@pytest.mark.parametrize("name", ["ridge", "prior", "uniform"])
def test_controls_ask_nothing_of_a_graph_that_they_do_not_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference embedding is trained for those alone that read types or difficulty of it."""
    graph = Graph(mapped_triples=clustered_triples(), num_entities=NUM_ENTITIES, num_relations=NUM_RELATIONS)
    asked: list[str] = []

    def types(self: Graph, num_types: int | None = None) -> Any:
        asked.append("types")
        return clustered_graph().given_types

    monkeypatch.setattr(Graph, "types", types)
    monkeypatch.setattr(Graph, "reference", property(lambda self: asked.append("reference")))
    engine = make_engine(name, graph=graph, targets=(0.2, 0.1))
    engine.prepare()
    if name != "uniform":
        engine.update(clustered_space(), None, BUDGET)
    assert set(asked) == ({"types"} if name == "ridge" else set())


def test_negatives_of_a_query_depend_on_it_unless_the_condition_is_left_out() -> None:
    """Without CCD, what is generated is the same for all queries."""
    for conditioned in (False, True):
        engine = updated("diffusion", dict(conditioned=conditioned))
        vectors: list[Tensor] = []
        for rows in (torch.arange(20), torch.arange(100, 120)):
            engine.random.manual_seed(0)
            vectors.append(engine.generate(rows))
        assert torch.allclose(*vectors) == (not conditioned)
