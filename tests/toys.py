"""Small graphs and spaces of known structure."""

from __future__ import annotations

import torch
from pykeen.typing import FloatTensor, LongTensor, MappedTriples

from pykeen_dans.generators.base import World
from pykeen_dans.graph import QueryIndex
from pykeen_dans.graph.types import EntityTypes
from pykeen_dans.space.combination import TranslationCombination
from pykeen_dans.space.entity_space import EntitySpace

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


def clustered_triples(*, num_triples: int = 600, seed: int = 0) -> MappedTriples:
    """Make triples whose relation leads from the head's cluster to one other cluster."""
    random = torch.Generator().manual_seed(seed)
    head, relation, member = (
        torch.randint(high, size=(num_triples,), generator=random)
        for high in (NUM_ENTITIES, NUM_RELATIONS, CLUSTER_SIZE)
    )
    cluster = (head // CLUSTER_SIZE + relation + 1) % NUM_CLUSTERS
    return torch.stack([head, relation, cluster * CLUSTER_SIZE + member], dim=-1)


def clustered_vectors(*, seed: int = 0) -> tuple[FloatTensor, FloatTensor]:
    """Make entity vectors that lie in clusters, and random relation vectors."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(NUM_CLUSTERS, DIM, generator=random)
    entities = centres.repeat_interleave(CLUSTER_SIZE, dim=0) + 0.4 * torch.randn(NUM_ENTITIES, DIM, generator=random)
    return entities, torch.randn(NUM_RELATIONS, DIM, generator=random)


def make_space(entities: FloatTensor, relations: FloatTensor | None = None) -> EntitySpace:
    """Make a space whose queries are translations."""
    return EntitySpace.create(entities=entities, relations=relations, combination=TranslationCombination())


def clustered_space(*, seed: int = 0) -> EntitySpace:
    """Make the space of the clustered graph."""
    return make_space(*clustered_vectors(seed=seed))


def clustered_world(*, seed: int = 0, typed: bool = True) -> World:
    """Make all that a generator knows of the clustered graph.

    The clusters are its types, by which a generator is told where answers are, or all entities are of one type, so that
    it has to find this out by itself.
    """
    labels = torch.arange(NUM_ENTITIES) // (CLUSTER_SIZE if typed else NUM_ENTITIES)
    return World(
        index=QueryIndex(
            mapped_triples=clustered_triples(seed=seed), num_entities=NUM_ENTITIES, num_relations=NUM_RELATIONS
        ),
        types=EntityTypes(labels=labels, num_types=NUM_CLUSTERS if typed else 1),
        difficulty=torch.rand(NUM_ENTITIES, generator=torch.Generator().manual_seed(seed)),
    )


def seeded(seed: int = 0) -> torch.Generator:
    """Make a source of randomness."""
    return torch.Generator().manual_seed(seed)


def known_answers(triples: LongTensor, *, kept: int, relation: int, tail: bool) -> set[int]:
    """Look up the known answers of a query in the triples themselves."""
    given, wanted = (0, 2) if tail else (2, 0)
    return {row[wanted] for row in triples.tolist() if row[given] == kept and row[1] == relation}


def functional_world(num_triples: int, *, num_relations: int = 5) -> World:
    """Make a graph in which each query has one answer."""
    random = seeded()
    relation = torch.randint(num_relations, size=(num_triples,), generator=random)
    head = torch.arange(num_triples)
    num_entities = 2 * num_triples
    triples = torch.stack([head, relation, head + num_triples], dim=-1)
    return World(
        index=QueryIndex(mapped_triples=triples, num_entities=num_entities, num_relations=num_relations),
        types=EntityTypes(labels=torch.zeros(num_entities, dtype=torch.long), num_types=1),
        difficulty=torch.full((num_entities,), 0.5),
    )


def random_space(num_entities: int, dim: int, *, num_relations: int = 5, scale: float = 1.0) -> EntitySpace:
    random = seeded(2)
    return make_space(
        scale * torch.randn(num_entities, dim, generator=random),
        scale * torch.randn(num_relations, dim, generator=random),
    )
