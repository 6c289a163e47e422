"""Small graphs and spaces of known structure, and small engines on them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pykeen.typing import FloatTensor, LongTensor, MappedTriples

from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.engine.settings import EngineSettings
from pykeen_dans.generators import Generator, generator_resolver
from pykeen_dans.graph import HEAD, TAIL, Graph
from pykeen_dans.graph.types import EntityTypes
from pykeen_dans.space import EntitySpace
from pykeen_dans.space.combination import TranslationCombination

#: The clustered graph has this many clusters, of this many entities each
NUM_CLUSTERS, CLUSTER_SIZE = 6, 15
NUM_ENTITIES = NUM_CLUSTERS * CLUSTER_SIZE
#: Relation ``r`` leads from each cluster to the ``r + 1``-th one after it
NUM_RELATIONS = 3
DIM = 12
#: A reference embedding that takes no time
REFERENCE = {"kind": "random", "dim": 8}
#: MiB, room for 40 rows of 4 bands with 4 slots
SHORT_OF_MEMORY = 40 * 4 * 4 * 4 / 2**20


class ToyGraph(Graph):
    """A graph whose types and difficulty are given, whatever a generator asks for.

    :param types: shape: (num_entities,) the type of each entity
    :param difficulty: shape: (num_entities,)
    :param kwargs: as for :class:`Graph`
    """

    def __init__(self, *, types: LongTensor, difficulty: FloatTensor, **kwargs: Any) -> None:
        super().__init__(**{"reference_kwargs": REFERENCE, **kwargs})
        self.given_types = EntityTypes(labels=types, num_types=int(types.max()) + 1)
        self.given_difficulty = difficulty

    def types(self, num_types: int | None = None) -> EntityTypes:
        return self.given_types

    def difficulty(self, name: Any = None, kwargs: Mapping[str, Any] | None = None) -> FloatTensor:
        return self.given_difficulty


def clustered_triples(*, num_triples: int = 600, seed: int = 0) -> MappedTriples:
    """Make triples whose relation leads from the head's cluster to one other cluster."""
    random = seeded(seed)
    head, relation, member = (
        torch.randint(high, size=(num_triples,), generator=random)
        for high in (NUM_ENTITIES, NUM_RELATIONS, CLUSTER_SIZE)
    )
    cluster = (head // CLUSTER_SIZE + relation + 1) % NUM_CLUSTERS
    return torch.stack([head, relation, cluster * CLUSTER_SIZE + member], dim=-1)


def clustered_vectors(*, seed: int = 0) -> tuple[FloatTensor, FloatTensor]:
    """Make entity vectors that lie in clusters, and random relation vectors."""
    random = seeded(seed)
    centres = torch.randn(NUM_CLUSTERS, DIM, generator=random)
    entities = centres.repeat_interleave(CLUSTER_SIZE, dim=0) + 0.4 * torch.randn(NUM_ENTITIES, DIM, generator=random)
    return entities, torch.randn(NUM_RELATIONS, DIM, generator=random)


def make_space(entities: FloatTensor, relations: FloatTensor | None = None) -> EntitySpace:
    """Make a space whose queries are translations."""
    return EntitySpace.create(entities=entities, relations=relations, combination=TranslationCombination())


def clustered_space(*, seed: int = 0) -> EntitySpace:
    """Make the space of the clustered graph."""
    return make_space(*clustered_vectors(seed=seed))


def clustered_graph(*, seed: int = 0, typed: bool = True, difficulty: FloatTensor | None = None) -> ToyGraph:
    """Make the clustered graph.

    The clusters are its types, by which a generator is told where answers are, or all entities are of one type, so that
    it has to find this out by itself.
    """
    return ToyGraph(
        types=torch.arange(NUM_ENTITIES) // (CLUSTER_SIZE if typed else NUM_ENTITIES),
        difficulty=torch.rand(NUM_ENTITIES, generator=seeded(seed)) if difficulty is None else difficulty,
        mapped_triples=clustered_triples(seed=seed),
        num_entities=NUM_ENTITIES,
        num_relations=NUM_RELATIONS,
    )


def parity_graph(*, num_entities: int = 80) -> tuple[ToyGraph, EntitySpace]:
    """Make a graph whose answers are no linear function of anything that a condition tells.

    Each entity has two signs, which its vector shows in one half of its dimensions each. A relation leads from a head
    to the entities whose first sign is the *product* of the head's signs, and whose second sign is the same, or the
    opposite one by the other relation. Over all heads, the mean answer given any linear feature is the mean of all.
    """
    random = seeded(5)
    signs = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]])[torch.arange(num_entities) % 4]
    head, relation = (torch.randint(n, size=(1200,), generator=random) for n in (num_entities, 2))
    first = signs[head].prod(dim=-1)
    wanted = torch.stack([first, first * (1 - 2 * relation)], dim=-1)
    fits = (signs[None] == wanted[:, None]).all(dim=-1)
    tail = torch.multinomial(fits.float(), 1, generator=random).squeeze(dim=-1)
    noise, relations = (torch.randn(n, DIM, generator=random) for n in (num_entities, 2))
    space = make_space(signs.float().repeat_interleave(DIM // 2, dim=-1) + 0.2 * noise, 0.1 * relations)
    graph = ToyGraph(
        types=torch.zeros(num_entities, dtype=torch.long),
        difficulty=torch.full((num_entities,), 0.5),
        mapped_triples=torch.stack([head, relation, tail], dim=-1),
        num_entities=num_entities,
        num_relations=2,
        sides=(TAIL,),
    )
    return graph, space


def functional_graph(num_triples: int, *, num_relations: int = 5) -> ToyGraph:
    """Make a graph in which each query has one answer."""
    relation = torch.randint(num_relations, size=(num_triples,), generator=seeded())
    head = torch.arange(num_triples)
    return ToyGraph(
        types=torch.zeros(2 * num_triples, dtype=torch.long),
        difficulty=torch.full((2 * num_triples,), 0.5),
        mapped_triples=torch.stack([head, relation, head + num_triples], dim=-1),
        num_entities=2 * num_triples,
        num_relations=num_relations,
    )


def random_space(num_entities: int, dim: int, *, num_relations: int = 5, scale: float = 1.0) -> EntitySpace:
    random = seeded(2)
    return make_space(
        scale * torch.randn(num_entities, dim, generator=random),
        scale * torch.randn(num_relations, dim, generator=random),
    )


def seeded(seed: int = 0) -> torch.Generator:
    """Make a source of randomness."""
    return torch.Generator().manual_seed(seed)


def known_answers(triples: LongTensor, *, kept: int, relation: int, tail: bool) -> set[int]:
    """Look up the known answers of a query in the triples themselves."""
    given, wanted = (0, 2) if tail else (2, 0)
    return {row[wanted] for row in triples.tolist() if row[given] == kept and row[1] == relation}


#: Options of generators by which they take no time
QUICK: Mapping[str, Mapping[str, Any]] = {
    "diffusion": dict(hidden_dim=8, batch_size=32, difficulty="constant", num_types=4),
    "ridge": dict(difficulty="constant", num_types=4),
    "hierarchical": dict(hidden_dim=8, batch_size=32, num_types=4),
    "two-way-gan": dict(batch_size=32, discriminator_steps=2),
}


def make_engine(
    generator: str | type[Generator] = "diffusion",
    *,
    graph: Graph | None = None,
    triples: MappedTriples | None = None,
    sides: Sequence[int] = (HEAD, TAIL),
    generator_kwargs: Mapping[str, Any] | None = None,
    **settings: Any,
) -> GenerationEngine:
    """Make a small engine, on the clustered graph unless something else is asked for."""
    if graph is None:
        graph = Graph(
            mapped_triples=clustered_triples() if triples is None else triples,
            num_entities=NUM_ENTITIES,
            num_relations=NUM_RELATIONS,
            sides=sides,
            reference_kwargs=REFERENCE,
        )
    cls = generator_resolver.lookup(generator)
    options = QUICK.get(generator, {}) if isinstance(generator, str) else {}
    defaults: dict[str, Any] = dict(targets=(0.3, 0.2, 0.1, 0.05), num_slots=4, memory=16.0, seed=0)
    return GenerationEngine(
        graph=graph,
        settings=EngineSettings(sides=tuple(sides), **{**defaults, **settings}),
        make_generator=functools.partial(
            cls, num_relations=graph.num_relations, **{**options, **(generator_kwargs or {})}
        ),
    )
