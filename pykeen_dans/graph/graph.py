"""A graph, as samplers and generators see it: what depends on the training triples alone, made lazily and once."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from class_resolver import HintOrType
from pykeen.typing import FloatTensor, LongTensor, MappedTriples

from ..utils.storage import content_key
from ..utils.validation import make_by_name, validate_mapping
from .difficulty import Difficulty, difficulty_resolver
from .queries import HEAD, TAIL, QueryBatch, QueryIndex
from .reference import ReferenceEmbedding, reference_embedding, validate_reference_kwargs
from .types import EntityTypes

__all__ = [
    "Graph",
]


class Graph:
    """The training triples, and what is made of them: each part when it is first asked for, and once.

    :param mapped_triples: shape: (num_triples, 3) the training triples, at least one for :attr:`index`
    :param num_entities: the number of entities
    :param num_relations: the number of relations, inverse ones included
    :param sides: the sides of queries that are to be filled, among :data:`~pykeen_dans.graph.queries.HEAD` and
        :data:`~pykeen_dans.graph.queries.TAIL`
    :param reference_kwargs: options of :func:`~pykeen_dans.graph.reference.reference_embedding`, default: its own

    :raises ValueError: if one of the options is unknown or invalid
    """

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        num_entities: int,
        num_relations: int,
        sides: Sequence[int] = (HEAD, TAIL),
        reference_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Initialise the graph; nothing is made yet."""
        self.mapped_triples: MappedTriples = mapped_triples.detach().cpu().long()
        self.num_entities = num_entities
        self.num_relations = num_relations
        self.sides = tuple(sides)
        self.reference_kwargs = validate_reference_kwargs(reference_kwargs)
        self._types: dict[int | None, EntityTypes] = {}
        self._difficulty: dict[Any, FloatTensor] = {}

    @functools.cached_property
    def index(self) -> QueryIndex:
        """The queries with their known answers.

        :raises ValueError: if there is no triple
        """
        return QueryIndex(
            mapped_triples=self.mapped_triples,
            num_entities=self.num_entities,
            num_relations=self.num_relations,
            sides=self.sides,
        )

    @functools.cached_property
    def reference(self) -> ReferenceEmbedding:
        """The reference embedding, trained or from the cache on disk."""
        return reference_embedding(
            mapped_triples=self.mapped_triples,
            num_entities=self.num_entities,
            num_relations=self.num_relations,
            **self.reference_kwargs,
        )

    def types(self, num_types: int | None = None) -> EntityTypes:
        """Get the types of entities: clusters of the reference embedding.

        :param num_types: the number of types, default: :func:`~pykeen_dans.graph.types.default_num_types`

        :returns: the types
        """
        if num_types not in self._types:
            self._types[num_types] = EntityTypes.cluster(self.reference.entities, num_types=num_types)
        return self._types[num_types]

    def difficulty(self, name: HintOrType[Difficulty] = None, kwargs: Mapping[str, Any] | None = None) -> FloatTensor:
        """Get the difficulty of entities.

        :param name: how it is told, see :data:`~pykeen_dans.graph.difficulty.difficulty_resolver`, default: ``learned``
        :param kwargs: its options, which JSON can express

        :returns: shape: (num_entities,) in (0, 1)

        :raises ValueError: if there is no such difficulty, or if an option is unknown or invalid
        """
        kwargs = validate_mapping("difficulty_kwargs", kwargs)
        instance = make_by_name("difficulty", difficulty_resolver, name, kwargs)
        # an instance is equal to itself alone; kept in the key, its place in memory is not given to another one
        key = name if isinstance(name, Difficulty) else (type(instance), content_key(**kwargs))
        if key not in self._difficulty:
            self._difficulty[key] = instance(graph=self)
        return self._difficulty[key]

    def sample_positives(self, size: int, random: torch.Generator) -> tuple[QueryBatch, LongTensor]:
        """Draw queries with one of their answers, as often as they occur in training.

        :param size: the number n of samples
        :param random: the source of randomness

        :returns: the queries, and shape: (n,) their answers
        """
        position = torch.randint(self.index.answers.shape[0], size=(size,), generator=random)
        return self.index.positives(position)
