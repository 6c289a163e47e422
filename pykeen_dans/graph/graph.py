"""Temporary."""

from __future__ import annotations

import functools

import torch

from ..utils.validation import make_by_name
from .difficulty import difficulty_resolver
from .queries import HEAD, TAIL, QueryIndex
from .reference import reference_embedding
from .types import EntityTypes


class Graph:
    def __init__(self, *, mapped_triples, num_entities, num_relations, sides=(HEAD, TAIL), reference_kwargs=None):
        self.mapped_triples = mapped_triples
        self.num_entities = num_entities
        self.num_relations = num_relations
        self.reference_kwargs = reference_kwargs
        self.index = QueryIndex(
            mapped_triples=mapped_triples, num_entities=num_entities, num_relations=num_relations, sides=sides
        )
        self._types = {}
        self._difficulty = {}

    @functools.cached_property
    def reference(self):
        return reference_embedding(
            mapped_triples=self.mapped_triples,
            num_entities=self.num_entities,
            num_relations=self.num_relations,
            **(self.reference_kwargs or {}),
        )

    def types(self, num_types=None):
        if num_types not in self._types:
            self._types[num_types] = EntityTypes.cluster(self.reference.entities, num_types=num_types)
        return self._types[num_types]

    def difficulty(self, name=None, kwargs=None):
        key = (name, repr(kwargs))
        if key not in self._difficulty:
            self._difficulty[key] = make_by_name("difficulty", difficulty_resolver, name, kwargs)(
                mapped_triples=self.mapped_triples, num_entities=self.num_entities, num_relations=self.num_relations
            )
        return self._difficulty[key]

    def sample_positives(self, size, random):
        position = torch.randint(self.index.answers.shape[0], size=(size,), generator=random)
        rows = torch.searchsorted(self.index.offsets, position, right=True) - 1
        return self.index.select(rows), self.index.answers[position].long()
